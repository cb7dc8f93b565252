// Package admin is the operator's listener: health, readiness and the API under /api/v1/. It is never the public one.
//
// Invariants:
//   - Readiness depends on this node alone, never on a backend or an origin: with fail-open, taking all nodes out of
//     the balancer would be the worse outage.
//   - The API needs the bearer token; health and readiness need none, since balancers ask them.
//   - No answer holds a token, a ticket or a query of a viewer's.
package admin
