package extauthz

import (
	"net/netip"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"usher/gateway/edge"
)

func TestNewCheckRequest(t *testing.T) {
	t.Parallel()
	type said = auth.AttributeContext_HttpRequest
	tests := map[string]struct {
		address string
		request *said
		want    edge.CheckRequest
	}{
		"a playlist with its token": {
			address: "192.0.2.7",
			request: &said{
				Method: "GET", Scheme: "https", Host: "tv.example.com:8443", Path: "/play/a%20b/index.m3u8?token=x%2Fy&a=b?c",
				Headers: map[string]string{"user-agent": "VLC/3.0.20", "referer": "https://portal.example.com/"},
			},
			want: edge.CheckRequest{
				Method: "GET", Scheme: "https", Host: "tv.example.com:8443",
				Path: "/play/a%20b/index.m3u8", Query: "token=x%2Fy&a=b?c",
				Address: netip.MustParseAddr("192.0.2.7"), UserAgent: "VLC/3.0.20", Referer: "https://portal.example.com/",
			},
		},
		"the header as raw bytes (encode_raw_headers)": {
			address: "192.0.2.7",
			request: &said{Method: "GET", Path: "/play/a/index.m3u8", HeaderMap: &core.HeaderMap{Headers: []*core.HeaderValue{
				{Key: "User-Agent", RawValue: []byte("VLC/3.0.20")},
				{Key: "referer", Value: "https://a.example.com/"},
				{Key: "referer", RawValue: []byte("https://b.example.com/")},
			}}},
			want: edge.CheckRequest{
				Method: "GET", Path: "/play/a/index.m3u8", Address: netip.MustParseAddr("192.0.2.7"),
				UserAgent: "VLC/3.0.20", Referer: "https://a.example.com/,https://b.example.com/",
			},
		},
		"HEAD without a query, over IPv6": {
			address: "2001:db8::7",
			request: &said{Method: "HEAD", Scheme: "http", Host: "tv", Path: "/play/a/seg.ts"},
			want: edge.CheckRequest{
				Method: "HEAD", Scheme: "http", Host: "tv", Path: "/play/a/seg.ts", Address: netip.MustParseAddr("2001:db8::7"),
			},
		},
		"the query told apart, as the API allows": {
			address: "192.0.2.7",
			request: &said{Method: "GET", Path: "/play/a/index.m3u8", Query: "token=x"},
			want: edge.CheckRequest{
				Method: "GET", Path: "/play/a/index.m3u8", Query: "token=x", Address: netip.MustParseAddr("192.0.2.7"),
			},
		},
		"an IPv4 viewer at an IPv6 socket": {
			address: "::ffff:192.0.2.7",
			request: &said{Method: "GET", Path: "/"},
			want:    edge.CheckRequest{Method: "GET", Path: "/", Address: netip.MustParseAddr("192.0.2.7")},
		},
		"a zone is the edge's own business": {
			address: "fe80::7%eth0",
			request: &said{Method: "GET", Path: "/"},
			want:    edge.CheckRequest{Method: "GET", Path: "/", Address: netip.MustParseAddr("fe80::7")},
		},
		"no address": {
			request: &said{Method: "GET", Path: "/"},
			want:    edge.CheckRequest{Method: "GET", Path: "/"},
		},
		"an address that is none": {
			address: "a viewer",
			request: &said{Method: "GET", Path: "/"},
			want:    edge.CheckRequest{Method: "GET", Path: "/"},
		},
		"a scheme that is none of ours": {
			address: "192.0.2.7",
			request: &said{Method: "GET", Scheme: "gopher", Path: "/"},
			want:    edge.CheckRequest{Method: "GET", Path: "/", Address: netip.MustParseAddr("192.0.2.7")},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checker := &recorder{}
			run(t, checker, options{}).check(t, request(test.address, test.request))
			got := checker.only(t)
			if got.dialect != edge.Envoy || got.edge != netip.MustParseAddr("127.0.0.1") {
				t.Errorf("asked in %s by the edge %v, want envoy by the connection's 127.0.0.1", got.dialect, got.edge)
			}
			compare := cmp.Options{cmpopts.IgnoreFields(edge.CheckRequest{}, "Header"), cmpopts.EquateComparable(netip.Addr{})}
			if diff := cmp.Diff(test.want, got.request, compare); diff != "" {
				t.Errorf("the check differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJoinedHeader_Get_AnyCase(t *testing.T) {
	t.Parallel()
	checker := &recorder{}
	run(t, checker, options{}).check(t, request("192.0.2.7", &auth.AttributeContext_HttpRequest{
		Method: "GET", Path: "/", Headers: map[string]string{"cookie": "ticket=1; other=2", "x-empty": ""},
	}))
	h := checker.only(t).request.Header
	for _, name := range []string{"Cookie", "cookie", "COOKIE"} {
		if got := h.Get(name); got != "ticket=1; other=2" {
			t.Errorf("Get(%q) = %q, want the cookies", name, got)
		}
		if diff := cmp.Diff([]string{"ticket=1; other=2"}, h.Values(name)); diff != "" {
			t.Errorf("Values(%q) (-want +got):\n%s", name, diff)
		}
	}
	if got := h.Values("X-Empty"); len(got) != 1 || got[0] != "" {
		t.Errorf("an empty field: %q, want one empty value", got)
	}
	if got := h.Values("Authorization"); got != nil || h.Get("Authorization") != "" {
		t.Errorf("a field that the viewer did not send: %q, want none", got)
	}
}

// TestNewCheckRequest_SourceWithoutSocket decodes a check of an Envoy that listens on a Unix socket.
func TestNewCheckRequest_SourceWithoutSocket(t *testing.T) {
	t.Parallel()
	checker := &recorder{}
	q := playlist()
	q.Attributes.Source = &auth.AttributeContext_Peer{Address: &core.Address{
		Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: "/run/envoy"}},
	}}
	run(t, checker, options{}).check(t, q)
	if got := checker.only(t).request.Address; got.IsValid() {
		t.Errorf("the viewer's address is %v, want none", got)
	}
}

func TestServer_Check_NotHTTP(t *testing.T) {
	t.Parallel()
	checker := &recorder{}
	r := run(t, checker, options{})
	for name, q := range map[string]*auth.CheckRequest{
		"nothing":       {},
		"no request":    {Attributes: &auth.AttributeContext{}},
		"no HTTP in it": {Attributes: &auth.AttributeContext{Request: &auth.AttributeContext_Request{}}},
	} {
		_, err := r.Check(t.Context(), q)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "attributes.request.http") {
			t.Errorf("%s: %v, want InvalidArgument that names attributes.request.http", name, err)
		}
	}
	if len(checker.checks) != 0 {
		t.Errorf("%d checks were made, want none", len(checker.checks))
	}
}

// TestServer_Check_LargestHeader accepts Envoy's largest header. A larger check is an error. Envoy then follows
// failure_mode_allow, so no viewer must be able to cause one.
func TestServer_Check_LargestHeader(t *testing.T) {
	t.Parallel()
	checker := &recorder{}
	r := run(t, checker, options{})
	const most = 60 << 10 // max_request_headers_kb; Envoy reports the path twice
	q := playlist()
	path := "/play/a001/index.m3u8?token=" + strings.Repeat("x", most)
	q.Attributes.Request.Http.Path, q.Attributes.Request.Http.Headers[":path"] = path, path
	r.check(t, q)
	if got := checker.only(t).request.Query; len(got) != most+len("token=") {
		t.Errorf("the query has %d bytes, want all %d", len(got), most+len("token="))
	}

	q.Attributes.Request.Http.Headers["x-giant"] = strings.Repeat("x", maxRequestSize)
	if _, err := r.Check(t.Context(), q); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a giant check: %v, want ResourceExhausted", err)
	}
	r.check(t, playlist()) // and it still serves
}
