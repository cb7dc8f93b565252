package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
	"usher/bench/stage"
)

// asksForPassword allows alice by her password, and asks everybody else for one.
func asksForPassword(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
	if user, password, _ := r.BasicAuth(); user == "alice" && password == "wonderland" {
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Add("WWW-Authenticate", "Bearer")
	w.Header().Add("WWW-Authenticate", `Basic realm="TV"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// askWithPassword asks for a playlist as alice; without a password as nobody.
func askWithPassword(t *testing.T, address, password string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/play/a001/index.m3u8", nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		r.SetBasicAuth("alice", password)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

// TestNode_Challenge_OnEveryNode has two nodes share a challenge, and an answer to it.
func TestNode_Challenge_OnEveryNode(t *testing.T) {
	t.Parallel()
	m := middleware(t)
	m.SetDialect(asksForPassword)
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	text := fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
origins: { stage: { url: %q } }
backends: { portal: { kind: httprequest, address: %q, timeout: 30s, answer_deadline: 20s, breaker: { interval: 3m } } }
routes: [ { path: "/play/{channel}/*", origin: stage, backend: portal, credential_headers: [ Authorization ] } ]
sessions: { denial_ttl: 5m }
cluster: { redis: { addresses: [ %q ] }, encryption_keys: [ { id: a, secret: "0123456789abcdef" } ], redis_timeout: 10s }
`, origin.URL, m.URL(), startRedis(t))
	var nodes []string
	for range 2 {
		_, address, _ := launchNode(t, text, sdktrace.NewTracerProvider())
		nodes = append(nodes, address)
	}
	for _, password := range []string{"", "wrong"} {
		for i, address := range nodes {
			resp := askWithPassword(t, address, password)
			want := []string{"Bearer", `Basic realm="TV"`}
			if diff := cmp.Diff(want, resp.Header.Values("WWW-Authenticate")); resp.StatusCode != http.StatusUnauthorized || diff != "" {
				t.Errorf("node %d, password %q: %d, challenges (-want +got):\n%s", i, password, resp.StatusCode, diff)
			}
		}
	}
	for i, address := range nodes {
		if resp := askWithPassword(t, address, "wonderland"); resp.StatusCode != http.StatusOK {
			t.Errorf("node %d, with the password: %d, want 200", i, resp.StatusCode)
		}
	}
	if got := m.Calls(); got != 3 {
		t.Errorf("%d calls of the middleware, want one for each of three sessions", got)
	}
}

func TestCheck_Challenge_AnsweredByUserOfURL(t *testing.T) {
	m := middleware(t)
	m.SetDialect(asksForPassword)
	path := writeFile(t, strings.Replace(settingsFor(m.URL()), "required: [token]", "credential_headers: [ Authorization ]", 1))
	code, out, errs := usher("check", "--config", path, "--url", "http://tv.example.com/play/a001/index.m3u8")
	if code != 1 || !strings.Contains(out, `challenge Bearer, Basic realm="TV"`) {
		t.Errorf("without a password: exit code %d, %s%s", code, out, errs)
	}
	code, out, errs = usher("check", "--config", path, "--url", "http://alice:wonderland@tv.example.com/play/a001/index.m3u8")
	if code != 0 || strings.Contains(out+errs, "YWxpY2U6") || strings.Contains(out+errs, "wonderland") {
		t.Errorf("with a password: exit code %d, %s%s", code, out, errs)
	}
}

// TestNode_Users_Basic asks a viewer without an account for one, and allows the answer.
func TestNode_Users_Basic(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	users := writeFile(t, `users: { alice: { password: "sha256:00112233445566778899aabbccddeeff:08b02e0dffab8f537e48dc0649f5468099848d10dd73faad094060ac0d3ad9a4" } }`) // wonderland
	address, _ := startNode(t, fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
origins: { stage: { url: %q } }
backends: { people: { kind: users, file: %q, realm: TV } }
routes: [ { path: "/play/{channel}/*", origin: stage, backend: people, credential_headers: [ Authorization ] } ]
`, origin.URL, users), sdktrace.NewTracerProvider())
	for password, want := range map[string]int{"": 401, "wrong": 401, "wonderland": 200} {
		resp := askWithPassword(t, address, password)
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != want || (want == 401) != (challenge == `Basic realm="TV", charset="UTF-8"`) {
			t.Errorf("password %q: %d, WWW-Authenticate %q; want %d", password, resp.StatusCode, challenge, want)
		}
	}
}
