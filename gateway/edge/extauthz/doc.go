// Package extauthz answers Envoy's ext_authz filter by gRPC: envoy.service.auth.v3.Authorization/Check, as
// github.com/envoyproxy/go-control-plane defines it. Whoever speaks that (Istio, Contour, Gloo) is an Envoy to it.
//
//	Envoy says                                        we read
//	attributes.request.http.path, .method, .host …    what the viewer wants
//	attributes.source.address                         who he is: who holds the connection to Envoy
//	attributes.request.http.headers                   his header
//
// A yes adds X-Session-Name, X-UserId and X-Usher-Source to what the origin gets, over any that the viewer sent, and
// where the route recognises viewers by cookie Set-Cookie to what he gets. A no is 302, 403 or 503, with the reason as
// its body.
//
// Invariants:
//   - Every question about HTTP gets an answer of ours, also in an outage and after a panic: an error would leave the
//     decision to Envoy's failure_mode_allow, which knows neither viewers nor policies. So a no has the code
//     PermissionDenied whatever its status, since there have been Envoys that took others for failures.
//   - Only listed networks are heard (routes[].edge.networks), by the address of the connection.
//
// Decided: the gRPC health service answers as well, so that Envoy's health checks see a node that drains. A panic ends
// one question, by 503, and not the process.
//
// Refused: Envoy's HTTP flavour of ext_authz, which names the viewer's address nowhere of its own; and reading
// X-Forwarded-For. Envoy does not weigh it for the source either, whatever use_remote_address and xff_num_trusted_hops
// say: before Envoy, a balancer has to speak the PROXY protocol.
package extauthz
