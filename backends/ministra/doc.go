// Package ministra checks viewers with a Ministra (Stalker) portal, as Astra's backend type "Ministra/Stalker" does: by
// the check of the temporary links that the portal issues for Flussonic.
//
//	config    address: http://portal.example.com/stalker_portal     Ministra Pro: the domain's root
//	request   GET http://portal.example.com/stalker_portal/server/api/chk_flussonic_tmp_link.php?token=<32 hex>
//	          and Astra's X- headers, see package httprequest; the portal reads the token alone
//	allowed   200, no body; X-AuthDuration: 36000, X-Unique: true, X-Max-Sessions: 10, X-UserId: 7
//	denied    403, no body: the token is unknown, older than its life, empty, absent, or "0", which PHP calls empty
//
// At first a 200 came without headers (2014-06-23), then with duration, unique and user (2014-06-25), then with a
// session limit too (2015-10-23), which was 1 until version 5.1.1 sent its max_local_recordings (10) beside
// X-Unique: true. So none is required, and both reach the [backends.Decision] unchanged: the session limits decide which
// of them holds.
//
// The sources are the portal's own code (stalker_portal 5.1.1, 2017, server/api/chk_flussonic_tmp_link.php), and
// docs.ministra.pro, "Configuring temporary URL protection". That Astra appends this path follows from Cesbo's
// auth-proxy, whose manual gives the same address in full. Not public: whether today's Ministra Pro, whose code is
// closed, still sends these headers.
//
// In the portal's admin panel, switch on Temporary URL → Flussonic support for each channel's link (in its database:
// use_http_tmp_link and flussonic_tmp_link). address is not the page that set-top boxes open, /stalker_portal/c/.
//
// A token lives for the portal's tv_tmp_link_ttl, 5 s by default (an archive link's for 28,800 s). A check does not
// consume it, and it is bound to no channel and no address. A check after its end would deny a viewer who did nothing
// wrong. So the program sets, around this adapter, token_life: 5s (no older session is checked with the token that
// opened it) and validity: 36000s (for a 200 without X-AuthDuration). Where the portal's TTL is raised, token_life may
// be raised with it.
//
// Invariants:
//   - Every check is one GET, answered by the portal: the adapter caches nothing, so no token's life is wasted.
//   - The viewer's query is passed on byte for byte.
//
// Decided: a script that fails answers 200 with PHP's error in its body, and without display_errors 500. So the body of a
// yes, which is empty, is waited for to its end or first byte. An error page is a failure (broken_page: failure), and so is any other
// text, for example that of /server/load.php, which set-top boxes get as the portal's URL, or of a site that answers every path: its
// yes would hold for ten hours. PHP's warnings before an empty body are an alarm alone. An address whose path ends in .php is
// complete, and nothing is appended to it; `usher validate` warns of one that is no check. An empty token is checked
// like any other, since only the portal knows what it calls empty; `required` of a route saves the call.
// Refused: the portal's other links (Wowza, nginx, Nimble, EdgeCast, Akamai), whose servers check them by themselves.
package ministra
