// Package admin is the operator's listener: health, readiness, metrics and the API under /api/v1/. It is never the
// public one.
//
//	/metrics  usher_ready                                         1 while balancers may send viewers here
//	          usher_active_sessions                               sessions on this node
//	          usher_backend_breaker_state{backend,state}          1 for the state that holds
//	          usher_backend_contract_violations_total{backend,violation}   answers that violated the contract
//	          usher_backend_contract_violation{backend,violation}          1 while the backend violates it
//	          usher_cluster_nodes                                 live nodes, as far as this one knows
//	          usher_redis_up                                      1 while the shared store answers
//	          usher_active_bans                                   bans in force
//	          usher_redis_round_trips_total                       how often Redis was waited for on behalf of sessions
//	          go_*, process_*                                     the runtime's and the system's
//
// The API under /api/v1/, which any node answers for all of them:
//
//	GET    sessions             ?id= channel= route= backend= user= verdict= source= address= node= q= after= limit=
//	GET    sessions/{id}
//	POST   sessions/{id}/kick   {"duration": "5m", "reason": "…"}; also DELETE sessions/{id}
//	POST   kick                 all that match: the same, and at least one of the fields by which sessions are listed
//	GET    bans
//	POST   bans                 one of user, session, address, credentials_of; duration; reason
//	DELETE bans/{id}
//	GET    nodes
//	GET    backends             of this node
//
// A change is answered with 200, or with 202 while what nodes share is away: then this node obeys already, and the others
// do when it is back.
//
// Invariants:
//   - Readiness depends on this node alone, never on a backend or an origin: with fail-open, taking all nodes out of
//     the balancer would be the worse outage.
//   - The API needs the bearer token; health and readiness need none, since balancers ask them.
//   - Whatever changes something leaves a log record "audit": who, what, whom, and what came of it.
//   - No answer holds a token, a ticket or a query of a viewer's.
//   - Labels of metrics are backends' names and closed sets of ours, so viewers cannot make series.
//
// Decided: sessions are counted over all nodes without naming them all to one another; see sketch. A list is gathered from
// the nodes when it is asked for, rather than kept in what they share: it is asked for seldom, and a session's counters
// change with each request.
//
// Decided: /metrics needs no token either. It holds counts and names from the config and nothing of any viewer, the
// listener is never public, and a scraper that had to be given the API's token could do all that the API can.
package admin
