// Package flussonicquery builds the query with which Flussonic's auth_backend asks about a viewer who plays. It is shared by
// the kinds whose middleware expects it: flussonic, and iptvportal at the portal's path for Flussonic. Package flussonic says
// where the contract is documented, and what is uncertain.
//
// Entry point: [Parameters].
//
// Invariants:
//   - Each parameter occurs once. The viewer's query is the value of qs, so none of its parameters is taken for another.
//   - What a viewer chooses is bounded, so no viewer can make a call fail by its size.
package flussonicquery
