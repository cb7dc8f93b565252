// Package edge asks an auth server about viewers as media servers do, in each one's dialect: what the samples in deploy/edges make
// them send.
//
//	dialect           asks by
//	nginx             auth_request, with the viewer's header and X-Original-URI, X-Original-Method, X-Real-IP
//	traefik, caddy    X-Forwarded-Method, -Proto, -Host, -Uri and -For, with the viewer's header
//	astra, alta       the viewer's query, with X-Real-IP, -Path, -UA and Astra's -Host and X-Channel-ID, or Alta's -Origin
//	flussonic         a query with name, ip, token, session_id, request_type and others
//	envoy             ext_authz over gRPC
//
// Refused: the gateway's own decoders. A generator that spells with the gateway's code would not find its faults.
package edge
