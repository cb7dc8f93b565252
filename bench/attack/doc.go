// Package attack does to a server what attackers do: connections that say little, read little or do nothing, streams that are reset
// at once, and tokens that nobody has. It is for measuring what viewers notice of that.
//
// Begin with [Parse] and [Attack.Run].
//
// Invariants:
//   - An attack goes on until its context ends: what the server closes is opened again, ten seconds later.
//   - When Run returns, all connections are closed.
//
// Decided: connections come from a thousand loopback addresses, since a server bounds those of one.
package attack
