// Package admin serves the operator's listener: health, readiness, metrics and the API under /api/v1/. The listener must
// not be public.
//
// Begin with [Handler]; [Sessions] and [Cluster] are what it needs, as actors and cluster have them.
//
//	/metrics  usher_ready                                         1 while load balancers may send viewers to this node
//	          usher_active_sessions                               sessions on this node
//	          usher_backend_breaker_state{backend,state}          1 for the state that holds
//	          usher_backend_contract_violations_total{backend,violation}   responses that violated the contract
//	          usher_backend_contract_violation{backend,violation}          1 while the backend violates it
//	          usher_cluster_nodes                                 live nodes, as far as this one knows
//	          usher_redis_up                                      1 while Redis is available
//	          usher_active_bans                                   active bans
//	          usher_unenforced_refusals_total{route,reason}       sessions that a route with enforce: false would have refused
//	          usher_redis_round_trips_total                       waits for Redis on behalf of sessions
//	          go_*, process_*                                     metrics of the runtime and the process
//
// The API under /api/v1/, which every node serves for the whole cluster:
//
//	GET    sessions             ?id= channel= route= backend= user= verdict= source= address= node= q= after= limit=
//	GET    sessions/{id}
//	POST   sessions/{id}/kick   {"duration": "5m", "reason": "…"}; also DELETE sessions/{id}
//	POST   kick                 all that match: the same, and at least one of the filters of GET sessions
//	GET    bans
//	POST   bans                 one of user, session, address, credentials_of; duration; reason
//	DELETE bans/{id}
//	GET    nodes
//	GET    backends, routes     of this node
//
// A change gets 200, or 202 while Redis is unavailable: it is then in force on this node, and on the others once Redis has
// recovered.
//
// Invariants:
//   - Readiness depends on this node alone, never on a backend or an origin: with fail-open, removing all nodes from the
//     load balancer would be the worse outage.
//   - The API requires the bearer token. Health and readiness do not, because load balancers call them.
//   - Every change logs a record "audit" with actor, action, target and result.
//   - No response contains a viewer's token, ticket or query.
//   - Metric labels are the names of backends and routes and closed sets, so viewers cannot create series.
//
// Decided: sessions are counted over all nodes by sketches, without sending all ids; see sketch. A list is collected from
// the nodes on demand and not kept in Redis: it is rarely requested, and a session's counters change with each request.
//
// Decided: /metrics requires no token either. It holds counts and names from the config and no data of viewers. The
// listener is never public, and a scraper with the API's token could use the whole API.
package admin
