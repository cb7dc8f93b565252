// Package table measures the figures by which Usher's speed is judged, beside what an operator would run instead, and prints
// them as one Markdown table.
//
// Entry points: [Rows], and [Run], whose [Table] writes itself.
//
// The yardstick is nginx with auth_request, the answer kept by token, channel and address, over proxy_cache; see bench/peers.
// Every row runs all its servers in one go, in alternation (A B C A B C …), and compares medians. The range of a ratio is that
// of its rounds: both servers of a round ran within seconds of each other.
//
// Invariant: no goal is met by requests that fail. Their number is in the row.
//
// Decided: a ratio, not a rate, is the figure. A rate depends on the machine, and on what else runs there.
//
// Decided: each row starts its servers afresh, so that no row's sessions and caches weigh on the next one.
//
// Decided: generator, origin and middleware share the machine with the server, as all figures of this kind do that one command
// can repeat. What the generator and what other processes took is part of the row.
//
// Refused: a row left out because a goal is missed, or a round because it is slow.
package table
