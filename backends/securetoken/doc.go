// Package securetoken decides by the signed tokens of Astra, Alta and Flussonic. It calls no middleware: the key proves
// that the portal made the token.
//
//	viewer requests  /play/travel-channel/index.m3u8?token=0151c4a5…8f7c85d-a5cd6c00-1669890000-1669810000
//	                 hash-salt-endtime-starttime; hash = hex SHA-1 over, without separators,
//	                 name, address, starttime, endtime, key, salt, and the user's id where Flussonic has one
//
// The name is the channel's id in Astra and Flussonic, the request's path with the file in Alta. Where the address is
// not checked, the text no_check_ip replaces it. Sources: help.cesbo.com on secure tokens, flussonic.com on securelink;
// the formulas are certain, recomputed from published tokens. (The sample on Astra's page is Alta's, byte for byte, and
// verifies by Alta's formula alone.)
//
// Not public: the clock tolerance of the checking side, the position of the user's id in the visible token, IPv6,
// capitals in the hash, how a path with escapes is signed.
//
// The portal needs no change: the key of the media server ("securetoken://KEY") becomes `key`, and "no_check_ip=true"
// becomes `no_check_ip: true`. To rotate keys, set the new one as `key` and list the old one under `extra_keys` for as long
// as a session that it opened may run: a re-check verifies the token again, so a key that is removed ends its sessions, also those
// whose token expired long ago. That is how to end what a stolen key has opened. A user_parameter must be among the route's
// credentials.
//
// Invariants:
//   - A viewer is allowed only by a hash made with a key, for their channel and, unless disabled, their address.
//   - A missing token or one of another format does not deny: there is no opinion, as in Alta.
//   - Digits cannot be moved: as start and end follow each other without separator, "1669810000"+"1669890000" is also
//     "1"+"6698100001669890000", which never ends. So each has ten digits (years 2001 to 2286) and no leading zero.
//     For the same reason a user's id needs salts of one length: characters would move between the two.
//
// Decided: clock tolerance 30s; issuing scripts backdate the start by 60 to 300 s, so more is not needed. An IPv6
// address is hashed in its canonical text, an IPv4-mapped one as IPv4. The window applies to openings, and to running
// sessions only with `end_session_on_expiry`. Alta's path is hashed unescaped, as in the opening request. The user's id comes
// from a query parameter. One token has one spelling: lower-case hex.
//
// Refused: the parameter remote=no_check_ip or remote=ADDRESS, which some portals add; it is ignored, or a viewer could
// choose which address is checked. A token made with no_check_ip is valid only where the config sets it.
package securetoken
