package extauthz

import (
	"net/http"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	types "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"usher/gateway"
)

func set(name, value string) *core.HeaderValueOption {
	return &core.HeaderValueOption{
		Header:       &core.HeaderValue{Key: name, Value: value},
		AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func add(name, value string) *core.HeaderValueOption {
	return &core.HeaderValueOption{
		Header:       &core.HeaderValue{Key: name, Value: value},
		AppendAction: core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	}
}

func okResponse(ok *auth.OkHttpResponse) *auth.CheckResponse {
	return &auth.CheckResponse{
		Status: &rpc.Status{Code: int32(codes.OK)}, HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: ok},
	}
}

// deniedResponse has the code PermissionDenied for any status, because versions of Envoy differ on other codes.
func deniedResponse(denied *auth.DeniedHttpResponse) *auth.CheckResponse {
	return &auth.CheckResponse{
		Status:       &rpc.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: denied},
	}
}

func TestNewCheckResponse(t *testing.T) {
	t.Parallel()
	noStore := []string{"Cache-Control", "no-store", "Content-Type", "text/plain; charset=utf-8"}
	with := func(fields ...string) []string { return append(fields, noStore...) }
	denied := func(status types.StatusCode, fields ...*core.HeaderValueOption) *auth.CheckResponse {
		return deniedResponse(&auth.DeniedHttpResponse{
			Status: &types.HttpStatus{Code: status}, Body: "the why.\n",
			Headers: append(fields, set("Cache-Control", "no-store"), set("Content-Type", "text/plain; charset=utf-8")),
		})
	}
	tests := map[string]struct {
		answer gateway.Response
		want   *auth.CheckResponse
	}{
		"allowed: our fields overwrite the viewer's": {
			answer: newResponse(200, "", "X-Session-Name", "alice", "X-Userid", "7", "X-Usher-Source", "backend",
				"Cache-Control", "no-store"),
			want: okResponse(&auth.OkHttpResponse{Headers: []*core.HeaderValueOption{
				set("X-Session-Name", "alice"), set("X-Userid", "7"), set("X-Usher-Source", "backend"),
			}}),
		},
		"allowed: fields that we do not set are removed from the viewer's": {
			answer: newResponse(200, "", "X-Usher-Source", "fail-open", "Cache-Control", "no-store"),
			want: okResponse(&auth.OkHttpResponse{
				Headers:         []*core.HeaderValueOption{set("X-Usher-Source", "fail-open")},
				HeadersToRemove: []string{"X-Session-Name", "X-Userid"},
			}),
		},
		"allowed without a decision": {
			answer: newResponse(200, "", "Cache-Control", "no-store"),
			want:   okResponse(&auth.OkHttpResponse{HeadersToRemove: []string{"X-Session-Name", "X-Userid", "X-Usher-Source"}}),
		},
		"allowed with cookies, each added to those of the origin": {
			answer: newResponse(200, "", "Set-Cookie", "ticket=1; Path=/play/a", "Set-Cookie", "ticket=1; Path=/media/a",
				"X-Session-Name", "alice"),
			want: okResponse(&auth.OkHttpResponse{
				Headers:         []*core.HeaderValueOption{set("X-Session-Name", "alice")},
				HeadersToRemove: []string{"X-Userid", "X-Usher-Source"},
				ResponseHeadersToAdd: []*core.HeaderValueOption{
					add("Set-Cookie", "ticket=1; Path=/play/a"), add("Set-Cookie", "ticket=1; Path=/media/a"),
				},
			}),
		},
		"denied, with the reason for the operator": {
			answer: newResponse(403, "the why.\n", noStore...),
			want:   denied(types.StatusCode_Forbidden),
		},
		"sent elsewhere": {
			answer: newResponse(302, "the why.\n", with("Location", "http://promo.example.com/")...),
			want:   denied(types.StatusCode_Found, set("Location", "http://promo.example.com/")),
		},
		"asked for credentials, by either challenge": {
			answer: newResponse(401, "the why.\n", with("Www-Authenticate", "Bearer", "Www-Authenticate", "Basic")...),
			want:   denied(types.StatusCode_Unauthorized, add("Www-Authenticate", "Bearer"), add("Www-Authenticate", "Basic")),
		},
		"access cannot be checked now": {
			answer: newResponse(503, "the why.\n", with("Retry-After", "2")...),
			want:   denied(types.StatusCode_ServiceUnavailable, set("Retry-After", "2")),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, respondWith(test.answer), options{}).check(t, playlist())
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("the answer differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNewCheckResponse_NoFieldSetAndRemoved requires no field to be both set and removed: Envoy removes fields last.
func TestNewCheckResponse_NoFieldSetAndRemoved(t *testing.T) {
	t.Parallel()
	for known := range 1 << len(originHeaders()) {
		a := gateway.Response{Status: http.StatusOK}
		for i, name := range originHeaders() {
			if known>>i&1 == 1 {
				a.Set(name, "something")
			}
		}
		ok := newCheckResponse(&a).GetOkResponse()
		var names []string
		for _, h := range ok.GetHeaders() {
			names = append(names, h.GetHeader().GetKey())
		}
		names = append(names, ok.GetHeadersToRemove()...)
		slices.Sort(names)
		if want := originHeaders(); !slices.Equal(names, want) {
			t.Errorf("of the fields %b known, set or removed are %v; want each of %v once", known, names, want)
		}
	}
}

// hasHeader reports whether a refusal sets the field.
func hasHeader(denied *auth.DeniedHttpResponse, name string) bool {
	return slices.ContainsFunc(denied.GetHeaders(), func(o *core.HeaderValueOption) bool { return o.GetHeader().GetKey() == name })
}

func TestServer_Check_InvalidPath(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "*", "tv.example.com:443", "?token=good"} {
		checker := &recorder{}
		q := playlist()
		q.Attributes.Request.Http.Path = path
		got := run(t, checker, options{}).check(t, q).GetDeniedResponse()
		if got.GetStatus().GetCode() != types.StatusCode_Forbidden || got.GetBody() == "" || len(checker.checks) != 0 {
			t.Errorf("path %q: %v after %d checks, want 403 with a reason after none", path, got, len(checker.checks))
		}
		if hasHeader(got, "Retry-After") {
			t.Errorf("path %q: %v, want no Retry-After for what stays wrong", path, got)
		}
	}
}
