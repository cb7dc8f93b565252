// Package cluster is what nodes share: where sessions outlive the actors that own them, where nodes agree on who asks the
// middleware, where a user's streams are counted, and how all learn at once who has to go.
//
//	        ┌────────────────────────── Node ──────────────────────────┐
//	actors ─┤ Store: Memory, alone │ Redis ── guard ── batch ──────────┼── Redis: one server, Sentinel, Cluster
//	        │                      └─ Memory while Redis is away       │     ▲
//	 admin ─┤ bans, kicks ── revocations ─┐                            │     │
//	        │ questions ──────────────────┴─ bus: pulse, subscription ─┼─────┘
//	        └──────────────────────────────────────────────────────────┘
//
// [Store] is one contract: [Memory] keeps it for a node alone, [Redis] for any number, and one suite of tests holds both to
// it. Its scripts are in lua/, each with a header that says what its keys, arguments and result are; all keys of a script
// lie in one slot, so that a Redis Cluster runs it.
//
// What is in Redis, under cluster.redis.key_prefix, "usher" here. Times are milliseconds of the server's clock, unless they say
// otherwise; nodes tell it durations alone, so that their own clocks need not agree. Every key ends by itself; those who
// write it are scripts of lua/.
//
//	key                   type    until                    written by           what; what its loss costs
//	usher:s:{session}     hash    decision + session_ttl      claim publish kick   a session; its viewers are asked about
//	                                                       evict flush close    again
//	usher:live:{0…63}     zset    session_ttl                 beat sweep forget    who was seen when; told again with the
//	                                                                            next heartbeat
//	usher:u:{user}        hash    2 × idle or eviction_ttl  limit                a user's sessions; exact again after
//	                                                                            grace_period
//	usher:{all}:nodes     hash    1 min                    pulse                what nodes say of themselves; told again
//	                                                                            within 500 ms
//	usher:{all}:beats     zset    1 min                    pulse                when they last did
//	usher:{all}:state     hash    a day or revive_max_age      pulse revoke ban     epoch, last revocation, version of the
//	                                                       unban                bans; begun anew
//	usher:{all}:revocations
//	                      stream  a day or revive_max_age      revoke ban unban     the last 100,000; nodes issue theirs of
//	                                                                            5 minutes again, and write anew what
//	                                                                            refuses those sessions
//	usher:{all}:bans      hash    the last ban's end       ban unban            bans, sealed; every node writes what it
//	                                                                            knows again
//	usher:{all}:ban-ends  zset    the last ban's end       ban unban            when they end
//	usher:{all}:lifted    zset    30 days at most          unban ban            bans that were taken back, so that no node
//	                                                                            brings them again
//	usher:{all}:probe     string  1 min                    the guard            nothing: it is how a node tries whether
//	                                                                            Redis takes writes
//	channels              usher:wake     a session's answer is there, for those who wait
//	                      usher:over     a user exceeds his limit
//	                      usher:revoked  who has to go
//	                      usher:node:ID  what one node is told alone: questions, answers, its own beats
//
//	a session's fields    v version of the record · r the record, sealed · o opened, unix seconds · e when the decision ends ·
//	                      a 1 if somebody who knows the viewer decided · f its number · l the last lease · u until when it is
//	                      held · w somebody waits · b buried, unix seconds · k kicked until · x lost its place · s since when
//	                      the stretch lasts · c it is closed · nr nb ns nh requests, bytes, ms without answer, history
//
// An ACL user needs no more than
//
//	~usher:* &usher:* +@connection +@hash +@sortedset +@stream +@scripting +@pubsub +eval +evalsha +set +exists +pexpire
//	+pexpireat +pttl +time
//
// Invariants:
//   - Nobody waits for Redis longer than cluster.redis_timeout, and while it is away nobody waits at all.
//   - A call that comes to Redis after its caller has left changes nothing: it carries the time by which it is to run.
//   - Leases have numbers that only grow, also over a flush. A decision is stored under the number of its lease, and one
//     whose lease somebody else was granted since is dropped: a node that was frozen writes nothing stale.
//   - A stopgap (fail-open, last known, a ticket's word) never replaces what a backend said and still holds.
//   - A burial outlives every ticket that it refuses. A record of a newer version is ignored and not overwritten; what
//     refuses its session is heeded.
//   - Over all nodes a session is closed once, by the node that finds nobody has seen it, with what all nodes counted.
//   - What tells of viewers is sealed, users are keyed hashes: who reads Redis learns how many there are and no more.
//   - Whatever was revoked is applied once on every node: by the subscription or, after a gap, from the stream. Only if the
//     stream was trimmed beyond what a node knows does it look at all its sessions again, paced.
//   - After an absence of Redis each node writes what refuses viewers and what it counted, a few pipelines' worth at once.
//     Decisions are not written again: they are with the next re-checks, when they are due.
//
// Decided: Memory forgets everything when the node restarts; then a ticket speaks for its session until credentials turn
// up. A user's session that is missing from his set joins it again instead of being refused, or a flush would refuse
// everybody; the limit is exact again after a window. The counters of a node that is killed are lost with it, from its last
// sessions' ends on.
//
// Decided: a session is one hash, so that a look, a lease, a burial and a kick are one round trip. 64 sorted sets of who was
// seen, so that no script is long and all masters of a Redis Cluster bear a part.
//
// Refused: locks on several masters (Redlock), since a lease only saves a question and its number makes two of them
// harmless. Consumer groups of the stream, which would keep a list for nodes that are gone. An index of all sessions for
// the operator's lists: nodes are asked, seldom. Keyspace notifications for what ends, which are lost with a connection.
package cluster
