package extauthz

import (
	"net/http"
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	types "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"usher/gateway"
)

// originHeaders returns the fields that the origin may get from us. It never gets a viewer's own.
func originHeaders() []string { return []string{"X-Session-Name", "X-Userid", "X-Usher-Source"} }

// newCheckResponse encodes a response for Envoy.
func newCheckResponse(a *gateway.Response) *auth.CheckResponse {
	if a.Status == http.StatusOK {
		return newOKResponse(a)
	}
	denied := &auth.DeniedHttpResponse{
		Status: &types.HttpStatus{Code: types.StatusCode(a.Status)},
		Body:   string(a.Body),
	}
	for _, f := range a.Fields() {
		option := headerOption(f)
		if f.Name == "Www-Authenticate" { // several challenges are several fields
			option.AppendAction = core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
		}
		denied.Headers = append(denied.Headers, option)
	}
	return &auth.CheckResponse{
		// Also for 503: some versions of Envoy took any other code for a failure of the node, and admitted the viewer.
		Status:       &rpc.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: denied},
	}
}

// newRefusal returns a refusal that was decided without the gateway.
func newRefusal(status int, why string) *auth.CheckResponse {
	a := gateway.Response{Status: status, Body: []byte(why + "\n")}
	a.Set("Content-Type", "text/plain; charset=utf-8")
	a.Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		a.Set("Retry-After", "1")
	}
	return newCheckResponse(&a)
}

func newOKResponse(a *gateway.Response) *auth.CheckResponse {
	ok := &auth.OkHttpResponse{HeadersToRemove: originHeaders()}
	for _, f := range a.Fields() {
		if f.Name == "Set-Cookie" {
			cookie := headerOption(f)
			cookie.AppendAction = core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
			ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, cookie)
			continue
		}
		// Envoy removes fields after it has set others, so a field that is set must not be removed.
		if i := slices.Index(ok.HeadersToRemove, f.Name); i >= 0 {
			ok.HeadersToRemove = slices.Delete(ok.HeadersToRemove, i, i+1)
			ok.Headers = append(ok.Headers, headerOption(f))
		}
	}
	return &auth.CheckResponse{
		Status:       &rpc.Status{Code: int32(codes.OK)},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: ok},
	}
}

// headerOption sets a field and replaces any of that name.
func headerOption(f gateway.Field) *core.HeaderValueOption {
	return &core.HeaderValueOption{
		Header:       &core.HeaderValue{Key: f.Name, Value: f.Value},
		AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
