// Package iprules decides by the viewer's address, by rules as Alta and Astra have them. Nobody is asked.
//
//	office: { kind: iprules, rules: [ "allow 192.0.2.0/24", "deny 2001:db8::/32", "pass 198.51.100.7" ], default: pass }
//
// The first rule whose network holds the address decides: allow and deny say so, pass has no opinion, which is what the
// default is where no rule fits. In a list of the kind rules a backend without an opinion passes the viewer on to the next
// one; alone it refuses him.
//
// The words are those of Alta's manual (docs of Cesbo Alta, OTT authorization: allow, deny, pass and the older skip, IPv4 and
// IPv6, with or without a prefix length). Astra's IP list has addresses and IPv4 networks without words.
//
// Invariants:
//   - The order of the rules decides, not how narrow their networks are.
//   - An IPv4 address that comes as IPv6 is the IPv4 address; zones do not count.
//   - A viewer whose address nobody knows fits no rule but one for all.
//
// Decided: rules are looked up by prefix length, in a map for each, so that ten thousand rules cost as much as ten; the
// rule that stands first among the networks that hold the address decides.
//
// Refused: country and provider rules, which need a database that is not ours to ship. Reloading: the rules stand in the
// settings file.
package iprules
