// Package signedlink decides by links that are signed as nginx's secure_link module checks them. Ministra and Stalker
// portals make such links ("nginx secure link"), and so do many home-made ones. It asks nobody: who knows the secret
// made the link.
//
//	viewer asks  /live/ch1/playlist.m3u8?st=-AVOya7ms1YAcvp7glK_Xg&e=1669890000
//	             st = MD5 over the expression, in URL-safe base64 without padding; e = the last second of the link
//	             the expression by default is $secret$uri$expires: "supersecret" "/live/ch1" "1669890000"
//
// Sources: nginx.org/en/docs/http/ngx_http_secure_link_module.html, and the open source of Stalker (5.1.1, 2017), whose
// default order, names and trimming are the defaults here. The verdicts are compared with a real nginx's in a test.
//
// The portal's side stays as it is. Ministra's nginx_secure_link_secret becomes `secret`, its nginx_secure_link_order
// `expression`. What nginx's manual writes as
//
//	secure_link $arg_md5,$arg_expires;  secure_link_md5 "$secure_link_expires$uri$remote_addr secret";
//
// becomes md5_parameter: md5, expires_parameter: expires, expression: "$secure_link_expires$uri$remote_addr $secret".
//
// Invariants:
//   - Nobody gets in but by a hash that a secret made, for his path and, where the expression has it, his address.
//   - A link without signature, or with one of another shape, is no No: there is no opinion.
//
// Decided: as in nginx, $uri is the path unescaped, with slashes in a row made one; of two parameters the first counts,
// in whatever letters its name is written; its value is not unescaped; and there is no clock tolerance. $remote_addr is
// the viewer's; an IPv4 address within IPv6 counts as IPv4. A path that ends in what portals leave out when they sign
// (`trim_suffixes`) is tried without it, then as it is. The expiry binds openings, and running sessions only by `end_session_on_expiry`:
// Ministra's links live for five seconds.
//
// Refused, where nginx is more patient: an expiry that has not ten digits (years 2001 to 2286), because a digit could
// move between path and expiry: the link of /live/ch1 to 1669890000 would be one of /live/ch to 11669890000; a second
// spelling of one hash (bits that base64 leaves unused, padding other than "=="); paths with dot segments, which no
// route passes on; links that never expire.
package signedlink
