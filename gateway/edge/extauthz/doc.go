// Package extauthz answers Envoy's ext_authz filter by gRPC: envoy.service.auth.v3.Authorization/Check, as
// github.com/envoyproxy/go-control-plane defines it. Every proxy that uses it (Istio, Contour, Gloo) counts as Envoy.
//
//	field                                             meaning
//	attributes.request.http.path, .method, .host …    what the viewer wants
//	attributes.source.address                         the viewer's address: the peer of the connection to Envoy, or, if that peer
//	                                                  is in trusted_proxies, what it says in X-Forwarded-For
//	attributes.request.http.headers                   the viewer's header
//
// Entry points: [Server.Run] serves the listener, [Server.Check] answers one check; both are in server.go. response.go
// encodes the answer.
//
// An allowed check sets X-Session-Name, X-UserId and X-Usher-Source on the request to the origin, over any that the viewer
// sent. If the route matches by cookie it also adds Set-Cookie to the response to the viewer. A denied check is 302, 401,
// 403 or 503, with the reason as its body.
//
// Invariants:
//   - Every check of an HTTP request gets an answer, also in an outage and after a panic. An error would leave the decision
//     to Envoy's failure_mode_allow, which knows neither viewers nor policies. So a denial has the code PermissionDenied
//     whatever its status, because some versions of Envoy took other codes for failures.
//   - At most 4,000 connections are open. The one that had no check for longest makes room for another. One without checks is closed after
//     ten minutes, and a health watch ends then.
//   - A connection has at most 1,024 streams; Envoy opens another connection for more. A stream whose message does not arrive ends after
//     5 s, and beyond 2,048 of them on all connections the one that has waited for longest. The header of a call has at most 64 kB: a
//     longer field ends the connection, and the checks on it.
//   - Only listed networks may ask (routes[].edge.networks), by the address of the connection.
//
// Decided: a connection of an address outside of the networks is not closed before it asks. Its check tells the operator which network is
// missing, is allowed where the route does not enforce, and health checks come from anywhere. The gRPC health service answers as well, so that
// Envoy's health checks see a node that drains. A panic ends one check with 503 and not the process.
//
// Refused: Envoy's HTTP variant of ext_authz, which does not report the viewer's address; and believing X-Forwarded-For of a peer that is
// not in trusted_proxies. Envoy does not use it for the source either, whatever use_remote_address and xff_num_trusted_hops say: a
// balancer before Envoy is in trusted_proxies, or speaks the PROXY protocol.
package extauthz
