package main

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
)

// authProxySettings returns the settings of a node that replaces cesbo/auth-proxy, with two middlewares.
func authProxySettings(first, second string) string {
	const member = ", preset: auth-proxy, timeout: 500ms }"
	return `
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
backends:
  both: { kind: any, backends: [ first, second ], on_failure: deny }
  first: { kind: httprequest, address: "` + first + `/check?dropped=1"` + member + `
  second: { kind: httprequest, address: "` + second + `/auth"` + member + `
routes:
  - { path: "/*", backend: both, edge: { dialect: astra, networks: [ 127.0.0.1/32 ] } }
`
}

// TestNode_ReplacesAuthProxy sends a node the requests that Astra sends to Cesbo's auth-proxy, and requires the statuses
// of auth-proxy's source (github.com/cesbo/auth-proxy, commit 7f5aca6). Each viewer is checked once, because auth-proxy
// caches nothing and Usher caches an answer while it is valid.
func TestNode_ReplacesAuthProxy(t *testing.T) {
	healthy, refuse := backendtest.Healthy(), backendtest.Refuse()
	first, second := middleware(t), middleware(t)
	for _, token := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"} {
		first.SetUser("first"+token, backendtest.User{Name: "alice"})
		second.SetUser("second"+token, backendtest.User{Name: "bob"})
	}
	address, _ := startNode(t, authProxySettings(first.URL(), second.URL()), sdktrace.NewTracerProvider())
	for _, step := range []struct {
		name          string
		first, second backendtest.Mode
		method, path  string
		want          int
	}{
		{"the first allows", healthy, healthy, "GET", "/?token=first1", 200},
		{"the second allows", healthy, healthy, "GET", "/?token=second1", 200},
		{"both deny", healthy, healthy, "GET", "/?token=unknown1", 403},
		{"no token", healthy, healthy, "GET", "/", 403},
		{"any path", healthy, healthy, "GET", "/some/where.m3u8?token=first2", 200},
		{"any method becomes a GET", healthy, healthy, "POST", "/?token=first3", 200},
		{"HEAD", healthy, healthy, "HEAD", "/?token=second2", 200},
		{"the token twice", healthy, healthy, "GET", "/?token=first4&token=unknown", 200},
		{"the first is unavailable, the second allows", refuse, healthy, "GET", "/?token=second3", 200},
		{"the first is unavailable, the second denies", refuse, healthy, "GET", "/?token=first5", 403},
		{"the first fails", backendtest.Status(500), healthy, "GET", "/?token=first6", 403},
		{"the first fails, the second allows", backendtest.Status(500), healthy, "GET", "/?token=second4", 200},
		{"another 2xx denies", backendtest.Status(204), healthy, "GET", "/?token=unknown2", 403},
		{"a wrong address", backendtest.Status(404), healthy, "GET", "/?token=unknown3", 403},
		{"a redirect is followed", backendtest.Redirect(second.URL() + "/auth?token=second5"), backendtest.Status(403), "GET", "/?token=unknown4", 403},
		{"a redirect to an allowing answer", backendtest.Redirect(second.URL() + "/auth?token=second6"), healthy, "GET", "/?token=unknown5", 200},
		{"the first hangs, the second allows", backendtest.Hang(), healthy, "GET", "/?token=second7", 200},
		{"both hang", backendtest.Hang(), backendtest.Hang(), "GET", "/?token=first7", 403},
		{"both are unavailable", refuse, refuse, "GET", "/?token=first8", 403},
		{"both are unavailable, the next viewer", refuse, refuse, "GET", "/?token=second8", 403},
	} {
		for m, mode := range map[*backendtest.Server]backendtest.Mode{first: step.first, second: step.second} {
			if err := m.SetMode(mode); err != nil {
				t.Fatal(err)
			}
		}
		if status, body := askAsAstra(t, step.method, address+step.path); status != step.want || body != "" {
			t.Errorf("%s: %d %q, want %d and no body", step.name, status, body, step.want)
		}
	}
}

// TestNode_AuthProxyRequest requires the members to get auth-proxy's request, and a hanging member not to delay the other's
// allowing answer.
func TestNode_AuthProxyRequest(t *testing.T) {
	first, second := middleware(t), middleware(t)
	if err := first.SetMode(backendtest.Hang()); err != nil {
		t.Fatal(err)
	}
	address, _ := startNode(t, authProxySettings(first.URL(), second.URL()), sdktrace.NewTracerProvider())
	if status, _ := askAsAstra(t, "GET", address+"/?token=good&x=%2B"); status != http.StatusOK {
		t.Fatalf("%d, want 200", status)
	}
	if err := first.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	seen := second.Requests()[0]
	if seen.Method != http.MethodGet || seen.Path != "/auth" || seen.RawQuery != "token=good&x=%2B" {
		t.Errorf("the second got %s %s?%s", seen.Method, seen.Path, seen.RawQuery)
	}
	for name, want := range map[string]string{
		"X-Real-Ip": "192.0.2.7", "X-Real-Path": "/play/a001/index.m3u8", "X-Real-Origin": "http://tv.example.com",
		"X-Real-Ua": "VLC/3.0.20",
	} {
		if got := seen.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if seen.Header.Get("X-Session-Id") == "" || slices.Contains(seen.Header.Values("User-Agent"), "astra") {
		t.Errorf("headers: %v", seen.Header)
	}
}

// askAsAstra sends one check as Astra does.
func askAsAstra(t *testing.T, method, address string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"User-Agent": "astra", "X-Session-ID": "77", "X-Real-IP": "192.0.2.7", "X-Real-Path": "/play/a001/index.m3u8",
		"X-Real-UA": "VLC/3.0.20", "X-Real-Origin": "http://tv.example.com",
	} {
		r.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
