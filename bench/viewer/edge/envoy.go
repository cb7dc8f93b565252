package edge

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"usher/bench/viewer/wire"
)

// EnvoyClient asks an auth server over gRPC, on one connection. It is safe for concurrent use.
type EnvoyClient struct {
	conn   *grpc.ClientConn
	client auth.AuthorizationClient
}

// NewEnvoyClient returns a client of the server at an address, without TLS if secure is nil.
func NewEnvoyClient(address string, secure *tls.Config) (*EnvoyClient, error) {
	by := insecure.NewCredentials()
	if secure != nil {
		by = credentials.NewTLS(secure)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(by), grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
	if err != nil {
		return nil, err
	}
	return &EnvoyClient{conn, auth.NewAuthorizationClient(conn)}, nil
}

// Close closes the connection.
func (c *EnvoyClient) Close() error { return c.conn.Close() }

// Check asks. It returns the status that the viewer would get, or what was wrong. A traceparent may be empty.
func (c *EnvoyClient) Check(ctx context.Context, q *Question, traceparent string) (httpStatus int, failure string) {
	if traceparent != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", traceparent)
	}
	answer, err := c.client.Check(ctx, newCheckRequest(q))
	if err != nil {
		return 0, failureOf(status.Code(err))
	}
	if answer.GetStatus().GetCode() == int32(codes.OK) {
		return http.StatusOK, ""
	}
	if denied := answer.GetDeniedResponse().GetStatus().GetCode(); denied != 0 {
		return int(denied), ""
	}
	return http.StatusForbidden, "" // as Envoy answers without one
}

// Failures returns those of questions over gRPC, except the ones that questions over HTTP have too.
func Failures() (all []string) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if text := failureOf(code); strings.HasPrefix(text, ofGRPC) {
			all = append(all, text)
		}
	}
	return all
}

// ofGRPC begins the failures that HTTP does not have.
const ofGRPC = "grpc "

func failureOf(code codes.Code) string {
	switch code {
	case codes.DeadlineExceeded:
		return wire.Timeout
	case codes.Unavailable:
		return wire.Unreachable
	}
	return ofGRPC + code.String()
}

func newCheckRequest(q *Question) *auth.CheckRequest {
	socket := &core.SocketAddress{Address: q.Address.String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: 40000}}
	return &auth.CheckRequest{Attributes: &auth.AttributeContext{
		Source: &auth.AttributeContext_Peer{Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: socket}}},
		Request: &auth.AttributeContext_Request{Http: &auth.AttributeContext_HttpRequest{
			Method: http.MethodGet, Scheme: "http", Host: q.Host, Path: q.URI, Protocol: "HTTP/1.1",
			Headers: map[string]string{
				":method": http.MethodGet, ":path": q.URI, ":authority": q.Host, ":scheme": "http", "user-agent": q.UserAgent,
				"x-forwarded-for": q.Address.String(), "x-forwarded-proto": "http",
			},
		}},
	}}
}

// IsHTTP reports whether the dialect asks over HTTP.
func (d Dialect) IsHTTP() bool { return d != Envoy }
