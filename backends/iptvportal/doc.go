// Package iptvportal asks an IPTVportal, as Astra's backend type "IPTVportal" does, or at the place where the portal
// answers Flussonic.
//
//	config   address: https://go.iptvportal.cloud     the cloud's, or a local server's
//	we ask   GET https://go.iptvportal.cloud/auth/arescrypt/?<the viewer's query>
//	         with flussonic: true   …/auth/flussonic/arescrypt/?<the viewer's query>
//	         and Astra's X- headers, see package httprequest
//	yes      200; X-AuthDuration, X-UserId and the other headers are honoured if they come
//	no       401, 403, and with an alarm whatever else the preset does not call a failure
//
// The sources are Astra's manual (astra.cesbo.com/en/delivery/http/auth-backend) for the cloud's address and the
// portal-side set-up, Cesbo's auth-proxy and Alta manuals for the address in full, and, for the second path,
// iptvportal.cloud/support/configure-cas-hls-session-control-using-flussonic-software and Flussonic's page on two
// middlewares (flussonic.com/doc/authorize-user-against-two-middlewares).
//
// Not public: the parameter that holds the token, what is in it and how it is ciphered, by what the portal knows the
// channel (path, name or id), the answer's headers, and its statuses beside 200. So the token is opaque: query and
// headers go out unchanged, byte for byte, and nobody here looks for a token in them. That flussonic: true changes the
// path and nothing else is all that public material allows: Flussonic sends its own parameters there (name, ip,
// session_id, …), but whether the portal looks at them is written nowhere. Who needs them asks the same address with
// kind flussonic.
//
// In the portal, menu Keys, make a key: Name Astra, Algorithm ARESSTREAM, Mode SM, Key Length 1472 bit, Update Rate
// 1:00:00. In each channel's settings: Auth arescrypt (with flussonic: true, "flussonic arescrypt"), Encoded on, Key
// Astra. One key may serve all channels; the portal still looks whether the subscriber may watch the one asked for. Its
// manual gives about three update periods as the time in which a session changes, and advises an hour or longer. The
// key stays in the portal: we fetch none and decipher nothing.
//
// Invariants:
//   - The viewer's query arrives as he sent it: escapes, '+', '=' and '/' in their spelling, duplicates in their order.
//   - A viewer's header never stands in for one of ours.
//
// Decided: an address that ends in one of the two paths is the whole address, and nothing is appended; one that ends
// in Astra's beside flussonic: true is refused, because one of the two is a mistake. Refused: guessing a token's end
// from the update rate; the program sets, around this adapter, no token_ttl, and validity: 3m.
package iptvportal
