// Package limits counts the streams of a user and decides which of them may play. [NewMemory] makes the limits of one
// node, [NewRedis] those of all nodes that share a Redis; both have the same methods and the same rules.
//
//	                      ┌ Memory: streamSet, in this process
//	Join, Renew, Leave ───┤                                      ──► states, evicted streams, when to report again
//	                      └ Redis: lua/stream_limit.lua
//
// Invariants:
//   - Both follow the rules in limits.go: a property test compares every reply and every stored field.
//   - A viewer who zaps is never refused, at one address or on one device.
//   - A stream that a store has lost joins again instead of being refused; after a grace period the limit is exact again.
//   - All that is stored of a user expires by itself.
//
// Decided: the rules exist twice, in Go and in Lua. A script is one round trip and atomic; the same in Go would be a read,
// a compare-and-set and, under contention, both again.
package limits
