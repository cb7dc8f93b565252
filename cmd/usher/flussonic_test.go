package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
)

// TestNode_FlussonicAuthBackend sends a node the checks of Flussonic's auth_backend (flussonic.com/doc/api/authorization),
// with a Ministra as middleware.
func TestNode_FlussonicAuthBackend(t *testing.T) {
	m := middleware(t)
	m.SetUser("good", backendtest.User{ID: "8471796306", MaxSessions: 2, Unique: true, ValidFor: 36_000e9})
	address, _ := startNode(t, fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
backends: { portal: { kind: ministra, address: %q } }
routes:
  - { path: /auth/flussonic, backend: portal, required: [ token ], edge: { dialect: flussonic, networks: [ 127.0.0.1/32 ] } }
`, m.URL()+"/stalker_portal"), sdktrace.NewTracerProvider())
	play := func(token, ip, request, number string) *http.Response {
		t.Helper()
		return askAsFlussonic(t, http.MethodGet, address+"/auth/flussonic?name=a001&ip="+ip+"&proto=hls&request_type="+request+
			"&request_number="+number+"&session_id=6217fd62-16da-4206-9da9-0173d7552a14&stream_clients=0&total_clients=0"+
			"&token="+token+"&qs=token%3D"+token+"&user_agent=curl%2F7.68.0", "")
	}
	for i, request := range []string{"new_session", "update_session", "update_session"} {
		resp := play("good", "192.0.2.7", request, strconv.Itoa(i))
		seconds, err := strconv.Atoi(resp.Header.Get("X-AuthDuration"))
		if resp.StatusCode != http.StatusOK || err != nil || seconds < 32_000 || seconds > 36_003 {
			t.Errorf("%s: %d, X-AuthDuration %q; want 200 and about 36000 less the jitter", request, resp.StatusCode, resp.Header.Get("X-AuthDuration"))
		}
		if resp.Header.Get("X-UserId") != "8471796306" || resp.Header.Get("X-Max-Sessions") != "2" || resp.Header.Get("X-Unique") != "true" {
			t.Errorf("%s: headers %v", request, resp.Header)
		}
	}
	if got := m.Calls(); got != 1 {
		t.Errorf("%d calls of the portal for one session, want one", got)
	}
	denied := play("bad", "192.0.2.8", "new_session", "0")
	if denied.StatusCode != http.StatusForbidden || denied.Header.Get("X-UserId") != "" {
		t.Errorf("a bad token: %d, %v", denied.StatusCode, denied.Header)
	}
	publish := `{"name": "a001", "proto": "rtmp", "ip": "192.0.2.7", "request_number": 1, "token": "good", "qs": "token=good"}`
	if resp := askAsFlussonic(t, http.MethodPost, address+"/auth/flussonic", publish); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer's token publishes: %d, want 403", resp.StatusCode)
	}
	if err := m.SetMode(backendtest.Refuse()); err != nil {
		t.Fatal(err)
	}
	if resp := play("good", "192.0.2.7", "update_session", "3"); resp.StatusCode != http.StatusOK {
		t.Errorf("in an outage a playing viewer gets %d, want 200", resp.StatusCode)
	}
	// The outage policy admits the viewer, so Flussonic must check again soon.
	if resp := play("new", "192.0.2.9", "new_session", "0"); resp.StatusCode != http.StatusOK || resp.Header.Get("X-AuthDuration") == "" ||
		len(resp.Header.Get("X-AuthDuration")) > 2 {
		t.Errorf("in an outage a new viewer gets %d, X-AuthDuration %q", resp.StatusCode, resp.Header.Get("X-AuthDuration"))
	}
}

// askAsFlussonic sends one check.
func askAsFlussonic(t *testing.T, method, address, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}
