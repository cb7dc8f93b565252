// Package soak runs a cluster through faults drawn by chance, and checks on every answer what Usher promises in them.
//
//	viewers, forgers ──▶ node1 node2 node3 ──▶ nginx, the origin
//	                       │        ├──▶ portal1, portal2 (middlewares)
//	                       │        └──▶ dns, collector (traces and session records)
//	                       └──▶ redis-server
//
// Begin with [Run]. Each server is in a network and on a machine of its own, as far as [netns] can: the link of each pair fails by
// itself. The harness asks the nodes over their own loopback, which no fault touches, so that it sees what a node decides while nobody
// else can.
//
// # What is checked
//
//   - Both middlewares have the policy allow. So no viewer is refused or turned away, except who the middleware denies, who is banned
//     and who is forged; and no new viewer waits longer than answer_deadline. A connection that breaks, and an error of the origin's,
//     are no matter of auth: players go to the next node.
//   - A forged ticket is let in by no node.
//   - A ban is in force on a node that lists it, also after the node was killed; and on every node a second after it and
//     the node that placed the ban have reached Redis.
//   - Goroutines and memory do not grow from the middle of the run to its end. Both have a quiet time to compare.
//
// Decided: faults come from a deck of all kinds that is shuffled and dealt again and again, so that a short run has most of them. A
// seed gives the same faults at the same times; what they meet differs.
//
// Decided: the middlewares, DNS, and the collector run in this process, in hosts of their own. A middleware is broken by its own modes:
// to hang is what a stopped process does, to refuse what a killed one does.
//
// Decided: players of its own. They know who is banned and which node they ask; those of bench/viewer are made for load.
//
// Refused: a scenario file. What is checked needs to know at each answer what each node could know then.
package soak
