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
//
// Decided: a program attacks by a process of its own, of a priority below all others', since an attacker's processors are not the
// server's. In the process of the viewers a flood of 20,000 tokens a second had them wait for each other: p99 5 to 12 ms where it is
// 4 to 5. How fast the server refuses is learnt by an attack of its own, whose answers are not those of the measurement.
package attack
