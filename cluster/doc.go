// Package cluster is where sessions outlive the actors that own them: what a node needs to go on with a session that
// it does not hold, and what refuses a ticket whose session was denied.
//
// [Memory] serves one node alone. It forgets everything when the node restarts; then a ticket speaks for its session
// until credentials turn up.
//
// Invariants:
//   - A burial outlives every ticket that it refuses: it is kept for as long as a ticket may be revived.
//   - Memory is bounded by a number of records; the ones least used go first.
package cluster
