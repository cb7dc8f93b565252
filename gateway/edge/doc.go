// Package authz speaks with edges: media servers of others that serve viewers themselves and ask Usher whether they may.
// Each [Dialect] reads what an edge says of a viewer ([Call]) and words the answer ([CheckResult]) as that edge wants it.
// It decides nothing and does no I/O.
//
//	dialect        who asks so, and where the words are written down
//	astra          Cesbo Astra's backend type "HTTP Request", and cesbo/auth-proxy's clients
//	alta           Cesbo Alta's auth backend
//	flussonic      Flussonic's auth_backend (flussonic.com/doc/api/authorization)
//	nginx          ngx_http_auth_request_module; the headers are those of deploy/edges/nginx
//	forward-auth   Traefik's ForwardAuth and Caddy's forward_auth, with their X-Forwarded-* headers
//	envoy          Envoy's ext_authz, by gRPC: package extauthz
//
// What a viewer is told ([CheckResult.Status], as for media) becomes in each dialect:
//
//	              200    302 elsewhere      403    503 nobody can say now
//	astra, alta   200    403, X-Location    403    403
//	flussonic     200    403                403    500, which keeps a running session
//	nginx         200    403, X-Location    403    403, as any other status is an error to nginx
//	forward-auth  200    302                403    503, Retry-After
//	envoy         OK     302                403    503, Retry-After
//
// Invariants:
//   - What an edge says of the viewer's address is believed, since only listed edges are heard; what the edge's own
//     connection says is not.
//   - An edge's own session id never is identity by itself.
//   - Nothing here reads a header that the samples in deploy/edges do not set, so that no viewer can add one.
//
// Decided: a field that is missing is empty and no error where cesbo/auth-proxy takes the request (astra, alta); where the
// sample sets it and the answer hangs on it (nginx, forward-auth, flussonic) it is an error that names it.
//
// Refused: 302 to Flussonic, whose last open version takes it for a yes. Statuses other than 200 and 403 to Astra, which
// publishes no meaning for them, and its page says that an unreachable backend lets everybody in.
package edge
