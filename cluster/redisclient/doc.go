// Package redisclient runs Lua scripts on Redis, and keeps its callers from waiting for a Redis that does not answer.
// [New] makes a [Client]; [Client.Run], [Client.RunWithExpiry] and [Client.RunDirect] run scripts.
//
//	Run, RunWithExpiry ── breaker open? ── queue ── pipeline ──┐
//	                        ▲                                  ├── Redis: one server, Sentinel, Redis Cluster
//	         probe, alone ──┘        RunDirect, Subscription ──┘
//
// Beside the client it has what all its callers need: [Keyspace] names the keys and channels, [Cipher] encrypts what Redis
// holds of viewers, [Clock] estimates the server's time.
//
// Invariants:
//   - A call of Run returns within the timeout. While the breaker is open it returns at once.
//   - Calls that arrive together share a pipeline, which is one round trip.
//   - A call of RunWithExpiry that the server runs after its caller has given up changes nothing.
//   - A lost subscription is noticed: this package alone subscribes again, and then reports the gap.
//
// Decided: one breaker for all servers of a Redis Cluster, and a queue for each group of hash slots: calls to a server that
// is down wait in a queue of their own until the breaker opens.
//
// Refused: retries in the library. They multiply the time that a caller waits, and the breaker probes anyway.
package redisclient
