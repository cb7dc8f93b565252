package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
	"usher/bench/stage"
	"usher/gateway/admin"
)

// adminGet gets a path of a node's admin listener.
func adminGet(t *testing.T, n *node, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer 7f3a9c1e5b8d2046")
	n.adminHandler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

// TestNode_Unenforced_Migration plays a migration: a route that refuses nobody, its metric and its page, and the same route
// enforced after a restart, under the players of before.
func TestNode_Unenforced_Migration(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	portal := middleware(t)
	text := strings.NewReplacer("http://127.0.0.1:9", origin.URL, "timeout: 300ms", "timeout: 30s, on_failure: keep, answer_deadline: 20s, breaker: { interval: 3m }").
		Replace(settingsFor(portal.URL()+"/check")) + "admin: { token: 7f3a9c1e5b8d2046 }\n"
	before, address, stop := launchNode(t, strings.Replace(text, "required:", "enforce: false, required:", 1), sdktrace.NewTracerProvider())

	// playlist opens a channel and returns the URI of a segment, which is served.
	playlist := func(query string) (media string) {
		t.Helper()
		status, body := get(t, address+"/play/a001/index.m3u8"+query)
		media = withTicket(t, body)
		if inner, _ := get(t, address+media); status != http.StatusOK || inner != http.StatusOK {
			t.Fatalf("%q: playlist %d, media %d; want 200", query, status, inner)
		}
		return media
	}
	good, denied, anonymous := playlist("?token=good"), playlist("?token=bad"), playlist("")
	calls := portal.Calls()
	for range 3 {
		playlist("?token=bad")
	}
	if got := portal.Calls(); got != calls || calls != 2 {
		t.Errorf("the middleware was asked %d times, then %d; want two, and a denial remembered", calls, got)
	}
	if err := portal.SetMode(backendtest.Status(http.StatusInternalServerError)); err != nil {
		t.Fatal(err)
	}
	unchecked := playlist("?token=good&box=2")

	metrics := adminGet(t, before, "/metrics")
	for reason, want := range map[string]string{"backend": "1", "missing_credential": "1", "unchecked": "1", "ban": "0"} {
		if line := `usher_unenforced_refusals_total{reason="` + reason + `",route="/play/{channel}/*"} ` + want + "\n"; !strings.Contains(metrics, line) {
			t.Errorf("/metrics has no %s", line)
		}
	}
	var api struct{ Routes []admin.Route }
	if err := json.Unmarshal([]byte(adminGet(t, before, "/api/v1/routes")), &api); err != nil {
		t.Fatal(err)
	}
	if len(api.Routes) != 1 || api.Routes[0].Enforce || api.Routes[0].UnenforcedRefusals["backend"] != 1 {
		t.Errorf("the API shows %+v, want one route that is not enforced, with a refusal by the backend", api.Routes)
	}

	stop()
	if err := portal.SetMode(backendtest.Healthy()); err != nil {
		t.Fatal(err)
	}
	after, address, _ := launchNode(t, text, sdktrace.NewTracerProvider())
	for name, viewer := range map[string]struct {
		media string
		want  int
	}{
		"a good viewer": {good, http.StatusOK}, "a viewer of the outage": {unchecked, http.StatusOK},
		"a denied viewer": {denied, http.StatusForbidden}, "a viewer without credentials": {anonymous, http.StatusForbidden},
	} {
		if status, body := get(t, address+viewer.media); status != viewer.want {
			t.Errorf("%s, once the route is enforced: %d %s, want %d", name, status, body, viewer.want)
		}
	}
	if metrics := adminGet(t, after, "/metrics"); strings.Contains(metrics, "usher_unenforced_refusals_total{") {
		t.Errorf("/metrics has series of an enforced route")
	}
}
