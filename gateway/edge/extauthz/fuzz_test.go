package extauthz

import (
	"strings"
	"testing"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"usher/gateway"
)

// FuzzNewCheckRequest decodes arbitrary bytes as gRPC would, and puts the viewer's text into the response: any check
// can be decoded, and any response can be sent.
func FuzzNewCheckRequest(f *testing.F) {
	for _, address := range []string{"", "192.0.2.7", "::ffff:192.0.2.7", "fe80::1%eth0", "nobody"} {
		q := playlist()
		q.Attributes.Source = request(address, nil).GetAttributes().GetSource()
		raw, err := proto.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint8(0))
	}
	for i, path := range []string{"*", "/?", "/??a", "/\u00e9", "/a?b#c"} {
		http := &auth.AttributeContext_HttpRequest{Path: path, Scheme: "HTTP", Query: "q"}
		raw, err := proto.Marshal(request("192.0.2.7", http))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint8(i))
	}
	statuses := []int{200, 302, 403, 503}
	f.Fuzz(func(t *testing.T, raw []byte, which uint8) {
		var r auth.CheckRequest
		if proto.Unmarshal(raw, &r) != nil {
			return
		}
		q := newCheckRequest(&r)
		http := r.GetAttributes().GetRequest().GetHttp()
		if strings.Contains(q.Path, "?") || !strings.HasPrefix(http.GetPath(), q.Path) {
			t.Errorf("path %q of %q", q.Path, http.GetPath())
		}
		if q.Scheme != "" && q.Scheme != "http" && q.Scheme != "https" {
			t.Errorf("scheme %q", q.Scheme)
		}
		if q.Address.Zone() != "" || q.Address.Is4In6() {
			t.Errorf("address %v", q.Address)
		}
		for name, value := range http.GetHeaders() {
			if name == strings.ToLower(name) && q.Header.Get(name) != value { // Envoy sends no other
				t.Errorf("field %q is %q, want %q", name, q.Header.Get(name), value)
			}
		}
		a := gateway.Response{Status: statuses[int(which)%len(statuses)], Body: []byte(q.Path)}
		for i, name := range []string{"Set-Cookie", "X-Session-Name", "X-Userid", "X-Usher-Source", "Location"} {
			if which>>i&1 == 1 {
				a.Set(name, strings.ReplaceAll(q.UserAgent, "\x00", ""))
			}
		}
		answer := newCheckResponse(&a)
		if _, err := proto.Marshal(answer); err != nil {
			t.Errorf("the answer cannot be sent: %v", err)
		}
		if (answer.GetOkResponse() != nil) != (a.Status == 200) || (answer.GetStatus().GetCode() == 0) != (a.Status == 200) {
			t.Errorf("status %d is answered by %v", a.Status, answer)
		}
	})
}
