package extauthz

import (
	"context"
	"testing"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// baseline answers OK without reading the check.
type baseline struct {
	auth.UnimplementedAuthorizationServer

	answer *auth.CheckResponse
}

func (f baseline) Check(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) {
	return f.answer, nil
}

// BenchmarkCheck sends one check after another over a socket. The baseline is gRPC alone.
func BenchmarkCheck(b *testing.B) {
	b.Run("usher", func(b *testing.B) {
		a := newResponse(200, "", "X-Session-Name", "alice", "X-Userid", "7", "X-Usher-Source", "backend")
		check(b, run(b, respondWith(a), options{}))
	})
	b.Run("floor", func(b *testing.B) {
		listener, server := listen(b), grpc.NewServer()
		auth.RegisterAuthorizationServer(server, baseline{answer: okResponse(&auth.OkHttpResponse{})})
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer func() {
			_ = conn.Close()
			server.Stop()
			if err := <-ended; err != nil {
				b.Errorf("the floor ended with: %v", err)
			}
		}()
		check(b, auth.NewAuthorizationClient(conn))
	})
}

func check(b *testing.B, client auth.AuthorizationClient) {
	b.Helper()
	q := playlist()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Check(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewCheckRequestAndResponse measures what we add to gRPC: decoding the check and encoding the response.
func BenchmarkNewCheckRequestAndResponse(b *testing.B) {
	q := playlist()
	a := newResponse(200, "", "X-Session-Name", "alice", "X-Userid", "7", "X-Usher-Source", "backend")
	b.ReportAllocs()
	for b.Loop() {
		if newCheckRequest(q).Path == "" || newCheckResponse(&a).GetOkResponse() == nil {
			b.Fatal("no words")
		}
	}
}
