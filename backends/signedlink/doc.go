// Package signedlink decides by links that are signed as nginx's secure_link module checks them. Ministra and Stalker
// portals make such links ("nginx secure link"), and so do many home-made ones. It calls no middleware: the secret
// proves that the portal made the link.
//
//	viewer requests  /live/ch1/playlist.m3u8?st=-AVOya7ms1YAcvp7glK_Xg&e=1669890000
//	                 st = MD5 over the expression, in URL-safe base64 without padding; e = the link's last second
//	                 the expression by default is $secret$uri$expires: "supersecret" "/live/ch1" "1669890000"
//
// Sources: nginx.org/en/docs/http/ngx_http_secure_link_module.html, and the open source of Stalker (5.1.1, 2017), whose
// default order, names and trimming are the defaults here. A test compares the verdicts with a real nginx's.
//
// The portal needs no change. Ministra's nginx_secure_link_secret becomes `secret`, its nginx_secure_link_order
// `expression`. What nginx's manual writes as
//
//	secure_link $arg_md5,$arg_expires;  secure_link_md5 "$secure_link_expires$uri$remote_addr secret";
//
// becomes md5_parameter: md5, expires_parameter: expires, expression: "$secure_link_expires$uri$remote_addr $secret".
//
// Invariants:
//   - A viewer is allowed only by a hash made with a secret, for their path and, where the expression has it, their
//     address.
//   - A link without signature, or with one of another format, is not denied: there is no opinion.
//
// Decided: as in nginx, $uri is the path unescaped, with repeated slashes merged; of two parameters the first counts,
// whatever the case of its name; its value is not unescaped; and there is no clock tolerance. $remote_addr is the
// viewer's; an IPv4-mapped IPv6 address counts as IPv4. A path with a suffix that portals omit when they sign (`trim_suffixes`)
// is tried without it, then unchanged. The expiry applies to openings, and to running sessions only with
// `end_session_on_expiry`: Ministra's links live for five seconds. A re-check verifies the link again, so a secret that is removed
// from `extra_secrets` ends the sessions that it opened, however long ago; keep it there for as long as they may run.
//
// Refused, where nginx is more lenient: an expiry without exactly ten digits (years 2001 to 2286), because a digit could
// move between path and expiry: the link of /live/ch1 to 1669890000 would be one of /live/ch to 11669890000; a second
// spelling of one hash (bits that base64 leaves unused, padding other than "=="); paths with dot segments, which no
// route passes on; links that never expire.
package signedlink
