// Package extauthz answers Envoy's ext_authz filter by gRPC: envoy.service.auth.v3.Authorization/Check, as
// github.com/envoyproxy/go-control-plane defines it. Whoever speaks that (Istio, Contour, Gloo) is an Envoy to it.
//
//	Envoy says                                        we read
//	attributes.request.http.path, .method, .host …    what the viewer wants
//	attributes.source.address                         who he is, as Envoy's own settings see it
//	attributes.request.http.headers                   his header
//
// A yes adds X-Session-Name, X-UserId and X-Usher-Source to what the origin gets, over any that the viewer sent, and where
// the route recognises viewers by cookie Set-Cookie to what he gets. A no is 302, 403 or 503, with the reason as its body.
//
// Invariants:
//   - Every question gets an answer of ours, also in an outage: an error would leave the decision to Envoy's
//     failure_mode_allow, which knows neither viewers nor policies.
//   - Only listed networks are heard (routes[].edge.networks), by the address of the connection.
//
// Decided: the gRPC health service answers as well, so that Envoy's health checks see a node that drains. A panic ends
// one question and not the process, as net/http has it.
//
// Refused: Envoy's HTTP flavour of ext_authz, which names the viewer's address nowhere of its own; and reading
// X-Forwarded-For, which Envoy has weighed already when it fills in the source.
package extauthz
