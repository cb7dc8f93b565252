package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"usher/gateway/edge"
	"usher/gateway/ticket"
)

// newKnownViewer makes a gateway for nginx, and the check of a segment for a viewer whose fingerprint is known.
func newKnownViewer(tb testing.TB) (*edgeTestGateway, *Request) {
	tb.Helper()
	g := newEdgeTestGateway(tb, nil, edgeRoute(edge.Nginx))
	g.wantCheck(tb, edge.Nginx, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=123"})
	return g, &Request{
		Method: http.MethodGet, Scheme: "http", Host: "tv.example.com", Path: "/auth", Peer: netip.MustParseAddr("127.0.0.1"),
		Header: http.Header{
			"X-Original-Uri": {"/play/a001/seg-17.ts"}, "X-Original-Method": {"GET"}, "X-Real-Ip": {"192.0.2.7"},
			"X-Forwarded-Proto": {"https"}, "User-Agent": {"MAG250"},
		},
	}
}

// serveEdgeCheck serves one check and requires it to be allowed.
func serveEdgeCheck(tb testing.TB, g *edgeTestGateway, v *Request, a *Response) {
	if err := g.Serve(context.Background(), v, a); err != nil || a.Status != http.StatusOK {
		tb.Fatalf("got %d %q, %v", a.Status, a.Body, err)
	}
	a.Reset()
}

func BenchmarkEdgeCheck_KnownViewer(b *testing.B) {
	g, v := newKnownViewer(b)
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		var a Response
		for b.Loop() {
			serveEdgeCheck(b, g, v, &a)
		}
	})
	b.Run("in parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			var a Response
			for pb.Next() {
				serveEdgeCheck(b, g, v, &a)
			}
		})
	})
}

func BenchmarkEdgeCheck_ForgedCookie(b *testing.B) {
	g := newEdgeTestGateway(b, nil, edgeRoute(edge.Nginx, matchBy(edge.MatchByCookie)))
	r := httptest.NewRequest(http.MethodGet, "/auth", nil)
	r.RemoteAddr = "127.0.0.1:1"
	for name, value := range map[string]string{
		"X-Original-Uri": "/play/a001/seg-17.ts", "X-Real-Ip": "192.0.2.7", "Cookie": "usher_ticket=a." + string(make([]byte, ticket.Chars)),
	} {
		r.Header.Set(name, value)
	}
	v := newTestRequest(r)
	b.ReportAllocs()
	var a Response
	for b.Loop() {
		if err := g.Serve(context.Background(), &v, &a); err != nil || a.Status != http.StatusForbidden {
			b.Fatalf("got %d, %v", a.Status, err)
		}
		a.Reset()
	}
}
