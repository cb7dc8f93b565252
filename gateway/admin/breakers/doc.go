// Package breakers is how nodes tell each other what an operator does to the breaker of a backend. [EncodeForce] and
// [EncodeProbe] make the query that goes to all nodes, [Answer] is what each node replies, and [MergeForced] and [MergeProbes]
// read the replies.
//
// Invariants:
//   - A query carries a duration, so that the clocks of nodes need not agree.
//   - A node that does not know a query does not reply to it.
//   - A probe asks about a viewer whom the node has asked about before. No reply says about whom.
//
// Decided: a query only makes an order hold at once, and tells where it does. What makes it hold on a node that starts, or that
// the query missed, is the order in Redis; see package cluster.
package breakers
