// Package cluster is what nodes share: sessions that outlive their actors, the lease under which one node asks a backend,
// the stream limits of users, bans and revocations. [Open] makes a [Node], which is the [Store] of its sessions, and
// [Node.Run] connects it with the other nodes.
//
//	        ┌────────────────────────── Node ──────────────────────────┐
//	actors ─┤ Store: Memory, a single node │ Redis ── redisclient ─────┼── Redis: one server, Sentinel, Cluster
//	        │                              └─ Memory during an outage  │     ▲
//	        │ limits: the streams of a user, in either store           │     │
//	 admin ─┤ events: bans, revocations, requests, heartbeats ─────────┼─────┤
//	        │ reports: what outages cost, in Redis or in memory ───────┼─────┘
//	        └──────────────────────────────────────────────────────────┘
//
// [Store] is one contract: [Memory] keeps it for a single node, [Redis] for any number, and one suite of tests runs both.
// The scripts of each package are in its folder lua; each begins with its keys, arguments and result. All keys of a script
// lie in one hash slot, so that a Redis Cluster runs it.
//
// The table lists what is in Redis under cluster.redis.key_prefix, here "usher". Times are milliseconds of the server's
// clock, unless they say otherwise. Nodes send only durations, so that their own clocks need not agree. Every key expires;
// only scripts write, except for the probe.
//
//	key                       type    expires after             written by               what it holds; what its loss costs
//	usher:session:{session}   hash    decision + session_ttl    acquire_lease            a session; the backend is asked
//	                                                            store_decision           again
//	                                                            revoke_session
//	                                                            mark_evicted
//	                                                            add_counters
//	                                                            close_session
//	                                                            confirm_closed
//	usher:last-seen:{0…63}    zset    session_ttl               session_heartbeat        when each session was last seen;
//	                                                            expire_scan              restored by the next heartbeat
//	                                                            expire_ack
//	usher:user:{user}         hash    2 × the longest silence   store_streams            v version, s a user's streams; each node
//	                                  of a stream, 2 minutes                             restores those that it knows
//	usher:addresses:{session} hash    2 × idle_timeout          store_streams            the same of the addresses that use the
//	                                                                                     session's ticket; exact again after the
//	                                                                                     next heartbeat
//	usher:match:{match}       hash    30 minutes             store_match              tickets of viewers at edges who show none,
//	                                                                                     encrypted; stored again with each one's
//	                                                                                     next request, and a node that does not
//	                                                                                     know the viewer refuses them before
//	usher:{all}:nodes         hash    1 minute                  node_heartbeat           what nodes report about
//	                                                                                     themselves; restored in 500 ms
//	usher:{all}:heartbeats    zset    1 minute                  node_heartbeat           each node's last heartbeat; as above
//	usher:{all}:state         hash    a day or revive_for       node_heartbeat           the epoch and when it began, the last
//	                                                            publish_revocations      revocation; a new epoch begins
//	                                                            store_bans
//	                                                            remove_bans
//	usher:{all}:revocations   stream  a day or revive_for       publish_revocations      the last 100,000; nodes issue those
//	                                                            store_bans               of their last 5 minutes again, and
//	                                                            remove_bans              deny those sessions again
//	usher:{all}:bans          hash    the last ban's end        store_bans               bans and their tombstones, encrypted;
//	                                                            replace_bans             every node stores again those that
//	                                                            remove_bans              it knows
//	usher:{all}:ban-expiries  zset    the last ban's end        store_bans               when each ban ends; as above
//	                                                            remove_bans
//	usher:{all}:unbanned      zset    30 days at most           remove_bans              removed bans, so that no node stores
//	                                                            store_bans               them again; as above
//	usher:{all}:forced        hash    the last order's end      store_forced             operators' orders on breakers by
//	                                                                                     backend, encrypted; every node stores
//	                                                                                     again those that it knows
//	usher:{all}:reports:…     hash    retention                 store_report             what nodes saw of a backend's
//	                                                                                     outages, encrypted; each outage that
//	                                                                                     runs is stored again in 10 s
//	usher:{all}:reported:…    zset    retention                 store_report             when each was stored; as above
//	usher:{all}:known         stream  8 days                    exchange_known           viewers who were allowed, as keyed hashes:
//	                                                                                     the last 50,000 batches; nodes that
//	                                                                                     start take them for strangers
//	usher:{all}:probe         string  1 minute                  the breaker's probe      nothing; it shows that Redis accepts
//	                                                                                     writes
//	channels                  usher:decisions    a decision was stored that another node waits for
//	                          usher:limits       a user exceeds the stream limit
//	                          usher:revocations  revocations
//	                          usher:node:ID      messages to one node: requests, replies, its own heartbeats
//	                          of cluster.redis.database 1 usher:db1:decisions, and so on: Redis keeps channels of all
//	                          databases together
//
//	a session's fields        v version of the record · r the record, encrypted · d its fingerprint, a keyed hash, with its
//	                          revision · k the number of the newest check · o when it was opened, Unix seconds ·
//	                          e when the decision ends · a 1 if the decision is a backend's · f its revision · l the newest
//	                          lease · u when that lease ends · w another node waits · b tickets opened until then are
//	                          revoked, Unix seconds · x it is evicted · s when the current period
//	                          began · c it has no current period · nr nb ns nh requests, bytes, ms without a backend's
//	                          answer, history of decisions · y 1 if the decision allows the viewer · n the nodes that have
//	                          not reported yet what they count of the session · p the last period, until it is confirmed
//
// An ACL user needs no more than
//
//	~usher:* &usher:* +@connection +@hash +@sortedset +@stream +@scripting +@pubsub +eval +evalsha +set +exists +pexpire
//	+pexpireat +pttl +time
//
// and on each server of a Redis Cluster +cluster|slots beside these.
//
// Invariants:
//   - No request waits for Redis longer than cluster.redis_timeout, and during an outage none waits at all.
//   - A call that Redis runs more than a second after its caller has given up changes nothing: it carries its expiry. Counters
//     carry none, and are added once at most: those whose call may have been sent are not added again.
//   - Revisions only grow, also across a flush. A decision is stored under the revision of its lease, and dropped if a newer
//     lease was granted: a node that was frozen stores nothing stale.
//   - A fallback (fail-open, cached, ticket) never replaces a backend's decision that holds.
//   - A kick is a tombstone of its session and a ban that ends soon. One of many sessions bans them first, by groups, and writes the
//     tombstones, which are needed once it is over, in the background. Credentials are banned as keyed hashes, one for each
//     part of them, and a ban matches every viewer who presents all of its parts.
//   - A revoked ticket stays revoked for as long as it could be used. A record of a newer version is ignored and not
//     overwritten; its tombstones still count.
//   - Over all nodes a session is closed once, by the node that finds that no node has seen it, with the counters of all. What
//     was counted stays in Redis until that node confirms that its record is kept; until then it is returned again, with the
//     same period.
//   - After an outage of Redis a node closes no session before each node has had the time to report those that it saw.
//   - A record is estimated if a node allowed the session and never reported what it counted, as after a kill. Each node is
//     noted when it begins to hold the session, and removed by its report.
//   - What describes viewers is encrypted, and users are keyed hashes: Redis learns how many there are and no more.
//   - Each revocation is applied once on every node; see package events.
//   - After an outage each node writes what denies viewers and what it counted, a few pipelines at once. Of decisions it looks
//     up those that it could not store, and stores them if Redis lacks them.
//   - A backend's denial of a session that ran is announced once Redis has it. One of an outage is dropped if the viewer was
//     allowed under a lease that was granted after it: of two answers the newer one counts. A lease alone, or a fallback, does not
//     outdate it. Opening a session anew is not undone by the denial of an older ticket. A denial of an opening gives way to the yes on
//     an older ticket, of which it may say nothing.
//   - A ban holds for every ticket of every session that it refused, on all nodes, while one node lives that knows the ban.
//     Each refusal leaves a tombstone: the session's id with the ban's. It ends with its ban or with its removal, and when no
//     ticket can admit by itself any more (tickets.revive_for). Nothing else of the session is denied by it.
//   - After Redis lost its data a ticket that no record knows admits nobody until each live node has written its bans and
//     tombstones again, which takes less than a second. It is held until then, for three quarters of answer_deadline, and
//     gets 503 with Retry-After after that. After that it admits as before, and its session is matched with the bans as soon as
//     its credentials or its user are known.
//   - An operator's order on a breaker holds on every node, those that start later included, within half a second, until it ends.
//     Of two on one backend the newer one holds. An order that ends another is remembered for as long as that could hold.
//     Without Redis a restart ends it, unless the node has a cluster.state_dir.
//   - One session has one ticket. Nodes that cannot see each other's openings, because Redis stores nothing, sign one each. Of
//     these the latest is the session's on every node as soon as it is seen: within a second after Redis stores again, or with
//     the next heartbeat. A message tells it, which a node misses while it subscribes again, as after a freeze: it then looks
//     up the sessions for which Redis has failed. The others stay valid, and are revoked with it.
//
// Decided: what a ban cannot refuse is a session that no node and no store remembers, of which only the ticket is shown: one
// that was idle when the ban began, and whose record Redis lost since. It plays until its viewer shows credentials, or its
// ticket is older than tickets.revive_for. Likewise nothing is known of bans that all nodes and Redis have lost at once, unless
// a node keeps them in cluster.state_dir. 10,000 tombstones are kept of one ban, and 100,000 in all.
//
// Decided: nodes notice that Redis has lost its data by the epoch, which lies with what all nodes share. Of a Redis Cluster that loses
// the master and the replicas of other hash slots alone they notice nothing: bans hold, and each session that runs is stored again with
// its next heartbeats, but the tombstones of sessions that ended there are lost. The ticket of one that was denied before admits again
// on a node that does not remember the denial, until its viewer shows credentials or it is older than tickets.revive_for.
//
// Decided: Memory loses everything when the node restarts; then a ticket speaks for its session until credentials arrive. A
// stream that is missing from its user's set joins it again instead of being denied, or a flush would deny every viewer. The
// counters of a killed node are lost, and the records of its sessions say so.
//
// Decided: a node that re-checks a session names the record that it has by its fingerprint, and is told that Redis has the same, in
// place of the record; then the renewed decision needs no record either. The fingerprint is a keyed hash, so that Redis learns no more
// from it than from the record: that two are equal. It counts only with the revision under which it was stored, which an earlier
// version of Usher changes when it stores another record.
//
// Decided: a session is one hash, so that a lookup, a lease, a revoked ticket and a kick are one round trip. The last-seen
// times lie in 64 sorted sets, so that no script takes long and all masters of a Redis Cluster hold a part.
//
// Refused: locks on several masters (Redlock), since a lease only saves a request to a backend and revisions make two of
// them harmless. An index of all sessions for the operator's lists: the nodes are asked, which happens rarely.
package cluster
