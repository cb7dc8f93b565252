// Package iprules decides by the viewer's address, with rules as Alta and Astra have them. It calls no middleware.
//
//	office: { kind: iprules, rules: [ "allow 192.0.2.0/24", "deny 2001:db8::/32", "pass 198.51.100.7" ], default: pass }
//
// The first rule whose network contains the address decides: allow allows, deny denies, pass has no opinion. Without a
// matching rule the default decides. In a list of the kind rules a backend without an opinion passes the viewer on to
// the next rule; a standalone one denies them.
//
// The actions are those of Alta's manual (docs of Cesbo Alta, OTT authorization: allow, deny, pass and the older skip,
// IPv4 and IPv6, with or without a prefix length). Astra's IP list has addresses and IPv4 networks without actions.
//
// Invariants:
//   - The order of the rules decides, not how narrow their networks are. A rule that an earlier one with
//     another action keeps from ever deciding is a warning.
//   - An IPv4-mapped IPv6 address is the IPv4 address; zones are ignored.
//   - A viewer whose address is unknown matches only a rule for all.
//
// Decided: rules are looked up by prefix length, in one map, so that ten thousand rules cost as much as ten; of the
// networks that contain the address, the one whose rule comes first decides.
//
// Refused: country and provider rules, which need a database that this project cannot ship. Reloading: the rules are
// part of the settings file.
package iprules
