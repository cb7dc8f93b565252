// Package securetoken decides by the signed tokens of Astra, Alta and Flussonic. It asks nobody: who knows the key
// made the token.
//
//	viewer asks  /play/travel-channel/index.m3u8?token=0151c4a5…8f7c85d-a5cd6c00-1669890000-1669810000
//	             hash-salt-endtime-starttime; hash = hex SHA-1 over, without separators,
//	             name, address, starttime, endtime, key, salt, and the user's id where Flussonic has one
//
// The name is the channel's id in Astra and Flussonic, the request's path with the file in Alta. Where the address is
// not to be checked, the text no_check_ip stands in its place. Sources: help.cesbo.com on secure tokens, flussonic.com
// on securelink; the formulas are sure, recomputed from published tokens. (The sample on Astra's page is Alta's, byte
// for byte, and holds by Alta's formula alone.)
//
// Not public: the clock tolerance on the checking side, where the user's id stands in the visible token, IPv6, capitals
// in the hash, how a path with escapes is signed.
//
// The portal's side stays as it is: the key that the media server has ("securetoken://KEY") becomes `key`, and
// "no_check_ip=true" becomes `no_check_ip: true`. To change keys, make the new one `key` and list the old one under
// `keys` until no token of it is left. A user_parameter must be among the route's credentials.
//
// Invariants:
//   - Nobody gets in but by a hash that a key made, for his channel and, unless switched off, his address.
//   - Neither a missing token nor one of another shape is a No: there is no opinion, as in Alta.
//   - Digits cannot be moved: as start and end follow each other without separator, "1669810000"+"1669890000" is also
//     "1"+"6698100001669890000", which never ends. So each has ten digits (years 2001 to 2286) and no leading zero.
//     For the same reason a user's id needs salts of one length: characters would move between the two.
//
// Decided: clock tolerance 30s; issuing scripts date the start 60 to 300 s back themselves, so more is not needed.
// An IPv6 address is hashed in its canonical text, an IPv4-mapped one as IPv4. The window binds openings, and running
// sessions only if `end_session_on_expiry` says so. Alta's path is hashed unescaped, as the opening asked for it. The user's id
// comes from a query parameter. One token has one spelling: lower-case hex.
//
// Refused: the parameter remote=no_check_ip or remote=ADDRESS, which some portals add; it is not looked at, or a viewer
// could choose whose address is checked. A token made with no_check_ip holds where the config says so.
package securetoken
