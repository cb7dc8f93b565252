// Package admin serves the operator's listener: health, readiness, metrics and the API under /api/v1/. The listener must
// not be public.
//
// Begin with [Handler]; [Sessions] and [Cluster] are what it needs, as actors and cluster have them.
//
//	/metrics  usher_ready                                         1 while load balancers may send viewers to this node
//	          usher_active_sessions                               sessions on this node
//	          usher_sessions{route,backend,state}                 by state: allowed, unverified, denied, pending
//	          usher_sessions_token_expired{backend}               unverified ones that no check can verify: older than token_life
//	          usher_decisions_total{route,backend,verdict,source} decisions of sessions, re-checks included
//	          usher_opening_duration_seconds{route,backend,verdict}   a viewer's wait for the first decision
//	          usher_refusals_total{route,reason}                  responses that refused a viewer
//	          usher_overloads_total{setting}                      viewers turned away by a bound of this node
//	          usher_free_rides_total{route,backend}               unverified viewers whom the backend then denied
//	          usher_free_ride_seconds_total{route,backend}        for how long these watched
//	          usher_backend_call_duration_seconds{backend,outcome}    calls by answer or failure
//	          usher_backend_calls_in_flight{backend,check}        calls without an answer yet
//	          usher_backend_calls_limit{backend,check}            calls that may be in flight now
//	          usher_backend_rechecks_waiting{backend}             sessions that wait for a slot of recheck_rate
//	          usher_backend_rechecks_due_total{backend}           re-checks that became due
//	          usher_backend_rechecks_total{backend,outcome}       re-checks that ended: allowed, denied, failed, unneeded
//	          usher_backend_recheck_delay_seconds{backend}        from when a re-check was due until it might be made
//	          usher_backend_breaker_transitions_total{backend,state}  changes of the breaker's state
//	          usher_backend_breaker_state{backend,state}          1 for the state that holds
//	          usher_backend_forced{backend,state}                     1 while an operator forces the breaker to be so
//	          usher_backend_contract_violations_total{backend,violation}   responses that violated the contract
//	          usher_backend_contract_violation{backend,violation}          1 while the backend violates it
//	          usher_stream_evictions_total{route,reason}          sessions that played until: limit, superseded
//	          usher_revocation_delay_seconds{kind}                from another node's revocation until this node applied it
//	          usher_cluster_nodes                                 live nodes, as far as this one knows
//	          usher_redis_up                                      1 while Redis is available
//	          usher_active_bans                                   active bans, with those of kicks
//	          usher_playlist_uris_too_long_total{route}           URIs of playlists beyond tickets.max_uri
//	          usher_unenforced_refusals_total{route,reason}       sessions that a route with enforce: false would have refused
//	          usher_origin_failures_total{origin,reason}          requests of viewers that the origin failed
//	          usher_origin_fetches_total{origin,kind}             hit, fetched, coalesced, revalidated, stale, failover
//	          usher_origin_bytes_total{origin}                    bytes of the origin's bodies
//	          usher_cache_bytes{state}                            memory of origins' responses: stored, in_flight
//	          usher_cache_max_bytes                               the setting cache.max_size
//	          usher_cache_entries                                 stored responses
//	          usher_cache_evictions_total                         stored responses that made room for others
//	          usher_redis_call_duration_seconds{operation,outcome}   calls: ok, unavailable, cancelled, failed
//	          usher_redis_calls_in_flight{call}                   look-ups and writes of sessions: opening, recheck, reload, save
//	          usher_redis_round_trips_total                       waits for Redis on behalf of sessions
//	          usher_trace_spans_dropped_total{reason}             spans of traces that could not be sent
//	          usher_settings_reloads_total{outcome}               reloads of the settings: applied, unchanged, refused
//	          usher_settings_last_reload_successful               1 unless the last reload was refused
//	          usher_settings_last_reload_success_timestamp_seconds    when the settings in force were last read
//	          usher_records_delivered_total                       session records that the webhook took
//	          usher_records_dropped_total                         session records that were lost
//	          usher_records_failed_requests_total                 requests to the webhook that failed
//	          usher_records_waiting                               session records that wait for the webhook
//	          usher_records_waiting_bytes                         room that they take of records.spool.max_size
//	          usher_records_open_sessions                         sessions that are noted as open
//	          usher_memory_limit_bytes                            GOMEMLIMIT; 0: no limit
//	          usher_memory_live_bytes                             memory that cannot be collected
//	          usher_memory_shedding{sessions}                     1 while no sessions of strangers, or of all, are opened
//	          usher_bound_reached_total{bound}                    what full queues, caches and tables did not take or gave up
//	          go_*, process_*                                     metrics of the runtime and the process
//
// The API under /api/v1/, which every node serves for the whole cluster:
//
//	GET    overview             sessions, rates and breakers of all nodes, now and over ten minutes
//	GET    sessions             ?id= channel= route= backend= user= verdict= source= address= node= q= after= limit=
//	                            credentials_of=
//	GET    sessions/lookup      ?ids= those of up to 200 ids, at a cost that does not grow with the sessions
//	GET    sessions/{id}
//	GET    sessions/{id}/timeline   each check of a live session: when, why, by which backend, how long, with what outcome
//	POST   sessions/{id}/kick   {"duration": "5m", "reason": "…", "expect": 20, "dry_run": false}; also DELETE sessions/{id}
//	POST   kick                 all that match: the same, and at least one of the filters of GET sessions, without after
//	GET    bans                 also what kicks still refuse
//	POST   bans                 one of user, session, address, credentials_of; duration; reason, expect, dry_run
//	DELETE bans/{id}            ends a ban or a kick
//	GET    nodes                while Redis is unavailable as this one saw them last
//	GET    backends             of this node: rates of the last minute, the last failure of each kind, changes of the breaker
//	GET    routes               of this node
//	POST   backends/{name}/breaker  {"state": "open", "duration": "10m", "reason": "…"}: open, closed or auto, on all nodes
//	POST   backends/{name}/probe    each node sends one check
//	GET    origins              of this node, with the last failure of each reason that a viewer felt
//	POST   reload               reads the settings file of this node anew; 422 with all problems if it is refused
//	GET    free-rides           ?backend= from= to= format=json,csv
//	                            what each outage cost; see freerides
//	GET    openapi.json         the description of all this, with every field and status, in OpenAPI 3.1; see openapi
//	GET    config               the settings of this node as YAML, as usher validate --print prints them: no secret is in it
//
// A kick of a session refuses its user on its channel for the duration; where the user is unknown, all who present the
// session's credentials on that channel; where these are unknown too, the session. A kick by user alone refuses the user on
// every channel, by user and channel on that one. A kick by any other filter kicks each matching session: each node those that
// it holds, whether or not the caller still waits. It is listed as one ban, whose id readmits all. not_kicked are the nodes that
// did not, by name, with the reason: what only they hold plays on.
//
// A kick or a ban first counts the sessions and the addresses that it hits, over all nodes. If there are more sessions than
// expect, or 20 without it, it gets 409 with the numbers, and nothing is done. A dry run gets the numbers alone. Nodes that
// did not respond, or were too slow to read all their sessions, are named in unreachable_nodes. If the node that responds is one of
// them, or the one that a kick's filter names, a kick or a ban gets 503, and nothing is done.
//
// A change gets 200, or 202 while Redis is unavailable: it is then in force on this node, and on the others once Redis has
// recovered. It is made, or refused, whether or not its caller still waits.
//
// A request gets 400 if a part of it would be ignored: a query that cannot be parsed, a parameter or a field that is unknown, there
// twice or in capitals, and a verdict, a source or an id that no session could have. An empty value is none. An address may be a
// prefix.
//
// A forced breaker sends no check (open) or every check (closed) until its order ends, after a day at most: on all nodes, also on
// those that start meanwhile. not_forced are the nodes on which it does not hold yet, by name, with the reason. A live one has
// it with its next heartbeat. A probe sends one check through any breaker and moves nothing. It asks again about the viewer
// whom the node asked about last, since a check of nobody says little, and gets 409 where there was none.
//
// Invariants:
//   - Readiness depends on this node alone, never on a backend or an origin: with fail-open, removing all nodes from the
//     load balancer would be the worse outage.
//   - The API requires a bearer token, or a principal that code of this listener found by other means; see access. Health and
//     readiness do not, because load balancers call them.
//   - A change requires the role write: without it 403, and nothing was asked of the cluster. A dry run changes nothing.
//   - Every change, and every attempt, is a record "audit" with actor, client_address, action, target and result; of kicks and
//     bans with the numbers and the reason. The actor is the token's name; see audit. Invalid and forged requests for a change are
//     attempts.
//   - Wrong tokens are bounded for each subscriber prefix and in all, and so are requests for a change without one: 429 beyond that,
//     as for failed logins. They are records too, also those that only read, within the bound.
//   - No response contains a viewer's token, ticket or query.
//   - Metric labels are the names of backends and routes and closed sets, so viewers cannot create series. Those of a name that a reload
//     has removed end a few minutes after its last session.
//
// Decided: sessions are counted over all nodes by sketches, without sending all ids; see sketch. A list is collected from
// the nodes on demand and not kept in Redis: it is rarely requested, and a session's counters change with each request.
//
// Decided: a right token is never slowed, however many wrong ones come from its address. Otherwise a guess, or a program with an old
// token, would lock out all behind one proxy, also those who must kick. What makes guesses hopeless is the length of a token; the
// bound keeps them from filling the audit, which shows them.
//
// Decided: the delay of a revocation is measured by Redis' clock, so that the clocks of nodes need not agree. Where a failover
// sets that clock back, it counts as zero. What waited at its node while Redis was unavailable is part of it, except for bans,
// which count from when they were written.
//
// Decided: an eviction counts on each node where the session played, because each of them ends it. A session that the limit
// refuses when it opens is a decision, and no eviction.
//
// A timeline merges what each node that holds the session keeps of it: its opening, what changed its verdict or its source, and
// its newest checks. Older re-checks that changed nothing are one entry with a count. A closed session has none (404): its
// traces and the log tell. trace_url is admin.trace_url with the session's id.
//
// Refused: OpenTelemetry's metrics SDK between the counters and the scrape. It would add modules and a copy of each value, and
// say nothing that client_golang does not.
//
// Refused: the sum of what the nodes count. Behind a load balancer that sends each request elsewhere it shows each viewer once
// a node.
//
// Decided: a kick of many goes to the nodes as a filter, and each answers with a sketch of what it kicked, which is exact up to
// 60,000 sessions. A list of the sessions would be ten times as large, and older than what it kicks. A node that does not answer is
// asked once more: it kicks by the kick's id what it has not kicked yet.
//
// Refused: an order that waits in Redis for nodes that are away. They would kick viewers who came long after the operator kicked.
//
// Decided: credentials are compared as a set of parameters, headers and cookies. A banned viewer may add, repeat, reorder or
// respell some, and is still refused; one who presents fewer is not, unless the backend names the user. A filter by credentials
// travels as the id of a session, so that only keyed hashes of credentials leave a node.
//
// Decided: /metrics requires no token either. It holds counts and names from the config and no data of viewers. The
// listener is never public, and a scraper with the API's token could use the whole API.
package admin
