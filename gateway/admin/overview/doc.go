// Package overview counts what the first view of the live page shows, on each node, and joins what the nodes counted.
//
//	Counters, one a node ── Sample every 5 s ──► the last ten minutes ── Node ──► JSON ──► Join ──► Overview
//
// Begin with [Counters] and [Join].
//
// Invariants:
//   - What a node keeps is bounded: [Kept] samples, and as many of each backend's breaker.
//   - A breaker that opened between two samples is open in the later one, so that a short outage is seen.
//   - The breakers are those of the settings in force: one that a refused reload made, or that a reload took away, is not shown.
//   - Samples of all nodes cover the same intervals of the wall clock, so that they can be added. A node whose clock is ahead of that
//     of the node that responds hides nothing, and one whose clock was set back begins anew.
//
// Decided: rates are of openings and of decisions, which one node takes for the whole cluster, so their sum over the nodes is
// right. A share is the ratio of two sums: a session that two nodes hold counts twice in both.
//
// Refused: the sum of the nodes' sessions as the number of sessions. The caller counts them by sketches.
package overview
