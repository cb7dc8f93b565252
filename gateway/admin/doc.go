// Package admin is the operator's listener: health, readiness, metrics and the API under /api/v1/. It is never the
// public one.
//
//	/metrics  usher_ready                                         1 while balancers may send viewers here
//	          usher_sessions                                      live sessions
//	          usher_backend_breaker_state{backend,state}          1 for the state that holds
//	          usher_backend_alarms_total{backend,alarm}           answers outside the contract since the start
//	          usher_backend_alarm{backend,alarm}                  1 while the alarm holds
//	          go_*, process_*                                     the runtime's and the system's
//
// Invariants:
//   - Readiness depends on this node alone, never on a backend or an origin: with fail-open, taking all nodes out of
//     the balancer would be the worse outage.
//   - The API needs the bearer token; health and readiness need none, since balancers ask them.
//   - No answer holds a token, a ticket or a query of a viewer's.
//   - Labels of metrics are backends' names and closed sets of ours, so viewers cannot make series.
//
// Decided: /metrics needs no token either. It holds counts and names from the config and nothing of any viewer, the
// listener is never public, and a scraper that had to be given the API's token could do all that the API can.
package admin
