// Package calibrate measures on the operator's machine what package plan reckons with.
//
// Begin with [Run]. It starts real nodes, redis-server, middleware and origin with package rig, and plays load on them with
// package load. A cost of CPU is what /proc says that the node used, or INFO that redis-server used, over the operations of that
// time. A round measures each cost once, in steps; the median of at least three rounds counts.
//
//	step                         servers                         costs
//	new viewers, one after       one node                        node_bytes before it, opening_alone_us, session_bytes after it
//	the other                    one node, Redis                 opening_us, redis_opening_us, redis_session_bytes
//	cached playlists             the node of the first step      playlist_us
//	nginx asks about viewers     the node of the first step      auth_question_us
//	2,000 idle connections       one node                        connection_bytes
//	segments of two sizes        a node for each                 segment_us and segment_megabyte_us: the line through both
//	a validity of a second,      one node                        recheck_alone_us
//	no requests                  one node, Redis                 recheck_us, redis_recheck_us
//	a heartbeat a second, each   one node, Redis                 heartbeat_us, redis_heartbeat_us: what follows the requests,
//	viewer requests once                                         less what an idle node uses
//	heartbeats with a limit      the node of the last step       limited_heartbeat_us, redis_limited_heartbeat_us: the same
//
// The operations are counted where they are done: openings and re-checks by the middleware, heartbeats by Redis' own count of ZADD,
// those with a limit by that of HSET, all else by the generator.
//
// Decided: CPU, not rates. Generator, middleware and origin share the machine with the node, so that its rate is not that of a
// machine of its own; its CPU for an operation nearly is. Other processes make all costs higher, since caches are shared: a note
// says how much they took.
//
// Decided: re-checks and openings come as fast as the machine does them. On a node with little to do they cost two to four times
// that, since no two share a wake-up or a round trip to Redis; a plan is for full nodes.
//
// Decided: sessions are thousands, not a million, so that two minutes suffice. Heartbeats and memory of a session cost more then:
// a call reports few sessions, and the heap has more room to spare. The plan errs on the safe side.
//
// Decided: a cost that drowns in noise, and without redis-server those with Redis, keep the reference machine's value, marked as
// an estimate. The file is complete, and says so.
//
// Refused: profiles of the node, which do not see the kernel's part. Benchmarks of the code, which an operator cannot run. Costs
// under the race detector or other builds than the one that serves.
package calibrate
