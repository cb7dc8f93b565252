// Package ministra asks a Ministra (Stalker) portal, as Astra's backend type "Ministra/Stalker" does: the check of the
// temporary links that the portal hands out for Flussonic.
//
//	config   address: http://portal.example.com/stalker_portal     Ministra Pro: the domain's root
//	we ask   GET http://portal.example.com/stalker_portal/server/api/chk_flussonic_tmp_link.php?token=<32 hex>
//	         and Astra's X- headers, see package httprequest; the portal reads the token alone
//	yes      200, no body; X-AuthDuration: 36000, X-Unique: true, X-Max-Sessions: 10, X-UserId: 7
//	no       403, no body: the token is unknown, older than its life, empty, absent, or "0", which PHP calls empty
//
// A yes came without headers at first (2014-06-23), then with duration, unique and user (2014-06-25), then with a
// session limit too (2015-10-23), which was 1 until version 5.1.1 sent its max_local_recordings (10) beside
// X-Unique: true. So none is needed, and both reach the [backends.Decision] as they came: which of them holds is for
// the session limits to say.
//
// The sources are the portal's own code (stalker_portal 5.1.1, 2017, server/api/chk_flussonic_tmp_link.php), and
// docs.ministra.pro, "Configuring temporary URL protection". That Astra appends this path follows from Cesbo's
// auth-proxy, whose manual gives the same address in full. Not public: whether today's Ministra Pro, whose code is
// closed, still sends these headers.
//
// In the portal's admin panel, switch on Temporary URL → Flussonic support for each channel's link (in its database:
// use_http_tmp_link and flussonic_tmp_link). address is not the page that set-top boxes open, /stalker_portal/c/.
//
// A token lives for the portal's tv_tmp_link_ttl, 5 s by default (an archive link's for 28,800 s). A check does not use
// it up, and it is bound to no channel and no address. A check after its end would be a No to a viewer who did
// nothing wrong. So the program sets, around this adapter, token_ttl: 5s (no session older than that is asked about
// with the token that opened it) and validity: 36000s (what a yes without X-AuthDuration is worth). Whoever raises the
// portal's TTL may raise token_ttl with it.
//
// Invariants:
//   - Every check is one GET, answered by the portal: the adapter remembers nothing, and so uses up no token's life.
//   - The viewer's query is passed on byte for byte.
//
// Decided: an address whose path ends in .php is the script's own, and nothing is appended to it. An empty token is
// asked about like any other, since only the portal knows what it calls empty; a route's `required` saves the call.
// Refused: the portal's other links (Wowza, nginx, Nimble, EdgeCast, Akamai), whose servers check them by themselves.
package ministra
