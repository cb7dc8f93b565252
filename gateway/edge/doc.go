// Package edge holds what concerns edges: media servers that serve viewers themselves and ask Usher whether they may.
// An [Endpoint] is where an edge asks. A [Dialect] decodes what the edge reports of a viewer ([CheckRequest]) and encodes
// the answer ([CheckResult]). [Fingerprints] match requests without credentials to sessions. The package decides nothing;
// package gateway does.
//
//	dialect        which edges ask so, and where it is documented
//	astra          Cesbo Astra's backend type "HTTP Request", and clients of cesbo/auth-proxy
//	alta           Cesbo Alta's auth backend
//	flussonic      Flussonic's auth_backend (flussonic.com/doc/api/authorization)
//	nginx          ngx_http_auth_request_module, with the headers of deploy/edges/nginx
//	forward-auth   Traefik's ForwardAuth and Caddy's forward_auth, with their X-Forwarded-* headers
//	envoy          Envoy's ext_authz by gRPC: package extauthz
//
// Each dialect encodes the status that a viewer who asks for media would get ([CheckResult.Status]):
//
//	              200    302 redirect       401 challenge            403    503 try again
//	astra, alta   200    403, X-Location    403                      403    403
//	flussonic     200    403                403                      403    500, which keeps a running session
//	nginx         200    403, X-Location    401, WWW-Authenticate    403    403, because any other status is an error to nginx
//	forward-auth  200    302                401, WWW-Authenticate    403    503, Retry-After
//	envoy         OK     302                401, WWW-Authenticate    403    503, Retry-After
//
// Invariants:
//   - Only listed edges may ask, so the viewer's address is the one that the edge reports, never that of its connection.
//   - An edge's own session id is never an identity by itself: credentials, channel, address and the edge's address count too.
//   - What an edge with sessions did not report is told to no backend as if it had ([CheckRequest.Report]).
//   - No dialect reads a header that the samples in deploy/edges do not set, so no viewer can inject one.
//   - Only GET and HEAD are ever allowed, because an edge passes on to its origin what is allowed. A route that does not enforce
//     allows OPTIONS too.
//   - A fingerprint may name sessions that are over. The gateway matches none of those.
//   - Nodes share the tickets of viewers who show none, so that any of them answers about a viewer ([Fingerprints.Record] says when
//     another must be told). [LookUps] bounds what strangers cost, and refused viewers.
//
// Decided: a missing field is empty and no error where cesbo/auth-proxy accepts the request (astra, alta). It is an error
// that names the field where the sample sets it and the answer depends on it (nginx, forward-auth, flussonic). An edge's
// session id reaches backends of its own contract alone; for others, whose ids have another form, one is derived from ours. Usher
// counts a session's checks itself, since it checks when the edge does not.
//
// Decided: the token that Flussonic reports is a credential where its qs has none, or where the route wants a token and qs has no
// parameter of that name: players drop it from the playlists that they ask for again, and append directives. Beside other credentials
// it may be one that Flussonic made.
//
// Refused: 200 for OPTIONS, whatever its header says, on a route that enforces. A browser's preflight shows no credentials, and looks
// like any viewer's OPTIONS, for which an origin that ignores methods sends the media. So the samples let the edge answer OPTIONS
// itself, without Usher.
//
// Refused: 302 to Flussonic, whose last open version treats it as allowed. Statuses other than 200 and 403 to Astra, which
// documents no meaning for them beside 401, and says that it admits every viewer when the backend is unreachable. A challenge
// to edges that keep sessions: they pass no header of a viewer's on, so no answer to it would arrive.
package edge
