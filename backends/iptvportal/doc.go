// Package iptvportal checks viewers with an IPTVportal, as Astra's backend type "IPTVportal" does, or with the portal's
// check for Flussonic.
//
//	config    address: https://go.iptvportal.cloud     the cloud's, or a local server's
//	request   GET https://go.iptvportal.cloud/auth/arescrypt/?<the viewer's query>
//	          with Astra's X- headers, see package httprequest
//	          use_flussonic_endpoint: true   GET …/auth/flussonic/arescrypt/?name=a001&ip=192.0.2.7&proto=hls&…
//	          with Flussonic's parameters, see package flussonic; the viewer's query is the one named qs
//	allowed   200; X-AuthDuration, X-UserId and the other headers are honoured if they come
//	denied    401, 403, and with an alarm any other status that the preset does not call a failure
//
// The sources are Astra's manual (astra.cesbo.com/en/delivery/http/auth-backend) for the cloud's address and the
// portal-side set-up, Cesbo's auth-proxy and Alta manuals for the complete address, and, for the second path,
// iptvportal.cloud/support/configure-cas-hls-session-control-using-flussonic-software and Flussonic's page on two
// middlewares (flussonic.com/doc/authorize-user-against-two-middlewares).
//
// Not public: the parameter of the token, its content and cipher, how the portal identifies the channel (path, name or
// id), the response's headers, and its statuses beside 200. So the token is opaque, and no code here parses one. To Astra's
// path query and headers are sent unchanged, byte for byte. To Flussonic's path everything is sent that Flussonic's
// documentation names, as Flussonic sends it: the portal's page says how to set up a Flussonic, and so no more about the
// wire than that.
//
// In the portal, menu Keys, make a key: Name Astra, Algorithm ARESSTREAM, Mode SM, Key Length 1472 bit, Update Rate
// 1:00:00. In each channel's settings: Auth arescrypt (with use_flussonic_endpoint, "flussonic arescrypt"), Encoded on, Key
// Astra. One key may serve all channels; the portal still checks whether the subscriber may watch the requested one.
// Its manual gives about three update periods as the time in which a session changes, and advises an hour or longer.
// The key stays in the portal: usher fetches none and decrypts nothing.
//
// Invariants:
//   - The viewer's query arrives as sent, in qs too: escapes, '+', '=' and '/' in their spelling, duplicates in their order.
//   - No parameter of the viewer's replaces one of Flussonic's.
//   - A viewer's header never replaces one of ours.
//
// Decided: an address that ends in one of the two paths is complete: nothing is appended, and the path says how the portal
// is called. One that ends in Astra's beside use_flussonic_endpoint: true is rejected, because one of the two is a mistake.
// Refused: deriving a token's end from the update rate; the program sets, around this adapter, no token_life, and validity: 3m.
package iptvportal
