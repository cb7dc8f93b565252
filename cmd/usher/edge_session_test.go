package main

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
)

// edgeKinds returns the settings of a backend of each kind that is called over HTTP.
func edgeKinds(address string) map[string]string {
	return map[string]string{
		"httprequest":             fmt.Sprintf("{ kind: httprequest, address: %q }", address),
		"ministra":                fmt.Sprintf("{ kind: ministra, address: %q }", address),
		"smarty":                  fmt.Sprintf("{ kind: smarty, address: %q }", address),
		"iptvportal":              fmt.Sprintf("{ kind: iptvportal, address: %q }", address),
		"iptvportal as Flussonic": fmt.Sprintf("{ kind: iptvportal, address: %q, use_flussonic_endpoint: true }", address),
		"flussonic":               fmt.Sprintf("{ kind: flussonic, address: %q }", address),
	}
}

// allowAll allows everybody, in the terms of every kind. Ministra's yes has no body.
func allowAll(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
	if !strings.HasSuffix(r.URL.Path, ".php") {
		_, _ = w.Write([]byte(`{"error": 0}`))
	}
}

// startEdgeSessionNode runs a node with that backend behind an endpoint of each dialect, at which edges at 203.0.113.0/24
// ask. edge holds further settings of the endpoints.
func startEdgeSessionNode(t *testing.T, backend, edge string) (address string) {
	t.Helper()
	text := `
identity: { secret: "0123456789abcdef" }
trusted_proxies: [ 127.0.0.1/32 ]
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
backends: { portal: ` + backend + ` }
routes:
`
	for _, dialect := range []string{"astra", "alta", "flussonic"} {
		text += fmt.Sprintf("  - { path: /%s, backend: portal, edge: { dialect: %s, networks: [ 203.0.113.0/24 ]%s } }\n", dialect, dialect, edge)
	}
	address, _ = startNode(t, text, sdktrace.NewTracerProvider())
	return address
}

// edgeCheck is a check as an edge of a dialect sends it.
type edgeCheck struct {
	dialect string
	query   string
	header  map[string]string
}

// edgeChecks returns what each edge sends of one viewer, with its own session 77.
func edgeChecks() map[string]edgeCheck {
	return map[string]edgeCheck{
		"astra": {"astra", "token=1", map[string]string{
			"X-Session-ID": "77", "X-Channel-ID": "a001", "X-Real-IP": "192.0.2.7", "X-Real-Path": "/play/a001/index.m3u8",
			"X-Real-UA": "MAG250", "X-Real-Host": "tv.example.com",
		}},
		"alta": {"alta", "token=1", map[string]string{
			"X-Session-Id": "77", "X-Real-Ip": "192.0.2.7", "X-Real-Path": "/a001/index.m3u8",
			"X-Real-Origin": "https://tv.example.com:8443", "X-Real-Ua": "VLC",
		}},
		"auth-proxy's least": {"astra", "token=1", map[string]string{"X-Real-IP": "192.0.2.7"}},
		"flussonic": {
			"flussonic", "name=a001&ip=192.0.2.7&proto=dash&request_type=new_session&request_number=0&session_id=" +
				"6217fd62-16da-4206-9da9-0173d7552a14&stream_clients=5&total_clients=9&token=1&qs=token%3D1&user_agent=VLC&dvr=true", nil,
		},
	}
}

// send sends the check from an edge at that address.
func (c edgeCheck) send(t *testing.T, address, edge string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/"+c.dialect+"?"+c.query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	r.Header.Set("X-Forwarded-For", edge)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, want 200", c.dialect, resp.StatusCode)
	}
}

// aNumber and aUUID stand for a session's id that is derived from ours.
const aNumber, aUUID = "a number", "a UUID"

// edgeFacts returns what a middleware was told of the session and of the edge's facts. An id of ours is replaced by its kind.
func edgeFacts(t *testing.T, r backendtest.Request) map[string]string {
	t.Helper()
	facts := map[string]string{}
	for name, values := range r.Header {
		if name != "User-Agent" && name != "Traceparent" && name != "X-Real-Ip" {
			facts[name] = values[0]
		}
	}
	query, err := url.ParseQuery(r.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"session_id", "proto", "dvr", "host", "user_agent", "name"} {
		if value := query.Get(name); value != "" {
			facts[name] = value
		}
	}
	for name, id := range facts {
		switch {
		case name == "X-Session-Id" && id != "77" && regexp.MustCompile(`^[0-9]+$`).MatchString(id):
			facts[name] = aNumber
		case name == "session_id" && regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString(id):
			facts[name] = aUUID
		}
	}
	return facts
}

// TestNode_EdgeFacts_Unchanged sends each kind of backend the checks of each edge. A backend of the edge's own contract is
// told the edge's session and what else it sent; no backend is told what the edge did not send.
func TestNode_EdgeFacts_Unchanged(t *testing.T) {
	t.Parallel()
	const fromFlussonic = "6217fd62-16da-4206-9da9-0173d7552a14"
	asAstra := map[string]map[string]string{
		"astra": {
			"X-Session-Id": "77", "X-Channel-Id": "a001", "X-Real-Path": "/play/a001/index.m3u8", "X-Real-Ua": "MAG250",
			"X-Real-Host": "tv.example.com",
		},
		"alta": {
			"X-Session-Id": "77", "X-Real-Path": "/a001/index.m3u8", "X-Real-Ua": "VLC", "X-Real-Origin": "https://tv.example.com:8443",
		},
		"auth-proxy's least": {},
		"flussonic":          {"X-Session-Id": aNumber, "X-Channel-Id": "a001", "X-Real-Ua": "VLC"},
	}
	asFlussonic := map[string]map[string]string{
		"astra":              {"session_id": aUUID, "proto": "hls", "name": "a001", "user_agent": "MAG250", "host": "tv.example.com"},
		"alta":               {"session_id": aUUID, "proto": "hls", "name": "/a001/index.m3u8", "user_agent": "VLC", "host": "tv.example.com:8443"},
		"auth-proxy's least": {"session_id": aUUID, "proto": "hls", "name": "/"},
		"flussonic":          {"session_id": fromFlussonic, "proto": "dash", "dvr": "true", "name": "a001", "user_agent": "VLC"},
	}
	for kind := range edgeKinds("") {
		want := asAstra
		if slices.Contains([]string{"flussonic", "iptvportal as Flussonic"}, kind) {
			want = asFlussonic
		}
		for edge, check := range edgeChecks() {
			t.Run(edge+" to "+kind, func(t *testing.T) {
				m := middleware(t)
				m.SetDialect(allowAll)
				check.send(t, startEdgeSessionNode(t, edgeKinds(m.URL())[kind], ""), "203.0.113.10")
				if diff := cmp.Diff(want[edge], edgeFacts(t, m.Requests()[0])); diff != "" {
					t.Errorf("facts (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestNode_EdgeSession_ByMode has two edges use one id, and one edge two.
func TestNode_EdgeSession_ByMode(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]struct {
		calls, ids int
		isEdges    bool
	}{
		"":                      {3, 2, true}, // 77 at two edges, and 78
		", session_id: derived": {3, 3, false},
		", session_id: ignore":  {1, 1, false},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := middleware(t)
			m.SetDialect(allowAll)
			address := startEdgeSessionNode(t, edgeKinds(m.URL())["httprequest"], mode)
			check := edgeChecks()["astra"]
			for range 2 { // the second time from the session
				check.header["X-Session-ID"] = "77"
				check.send(t, address, "203.0.113.10")
				check.send(t, address, "203.0.113.11")
				check.header["X-Session-ID"] = "78"
				check.send(t, address, "203.0.113.10")
			}
			var ids []string
			for _, r := range m.Requests() {
				ids = append(ids, r.Header.Get("X-Session-Id"))
			}
			isEdges := slices.Contains(ids, "77") && slices.Contains(ids, "78")
			slices.Sort(ids)
			if n := len(slices.Compact(slices.Clone(ids))); len(ids) != want.calls || n != want.ids || isEdges != want.isEdges {
				t.Errorf("%d calls with the ids %q, want %d with %d", len(ids), ids, want.calls, want.ids)
			}
		})
	}
}
