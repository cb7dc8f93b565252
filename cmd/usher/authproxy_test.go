package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
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

// authProxy answers as auth-proxy does, by its source (github.com/cesbo/auth-proxy, commit 7f5aca6): it asks every backend
// at once, with the path of its address and the viewer's query, and the first 200 wins.
func authProxy(t *testing.T, query string, addresses ...string) (status int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 3 * time.Second, ResponseHeaderTimeout: 2 * time.Second, IdleConnTimeout: 90 * time.Second,
		MaxResponseHeaderBytes: 2 << 10, DisableKeepAlives: true,
	}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	allowed := make(chan bool, len(addresses))
	for _, address := range addresses {
		path, _, _ := strings.Cut(address, "?")
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, path+"?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Real-Ip", "192.0.2.7")
		go func() {
			resp, err := client.Do(r)
			if err == nil {
				_ = resp.Body.Close()
			}
			allowed <- err == nil && resp.StatusCode == http.StatusOK
		}()
	}
	for range addresses {
		if <-allowed {
			return http.StatusOK
		}
	}
	return http.StatusForbidden
}

// TestNode_PHP_SameAsAuthProxy asks the same scripts through auth-proxy and through a node in its place. Where the statuses
// differ, the page of the kind gives the reason.
func TestNode_PHP_SameAsAuthProxy(t *testing.T) {
	t.Parallel()
	refused := "http://127.0.0.1:1/check"
	reasons := string(page(t, "any"))
	for name, test := range map[string]struct {
		scripts []string
		query   string
		want    int
		// because stands in the page if auth-proxy's status is another.
		because string
	}{
		"a listed address":                   {[]string{"/addresses.php"}, "token=1", 200, ""},
		"no backend allows":                  {[]string{"/slow.php", "/key.php"}, "token=1", 403, ""},
		"one of two allows":                  {[]string{"/slow.php", "/addresses.php"}, "token=1", 200, ""},
		"an answer after more than a second": {[]string{"/late.php"}, "token=1200", 200, ""},
		"an answer after three":              {[]string{"/late.php"}, "token=3000", 403, ""},
		"the slow one of two allows":         {[]string{"/late.php", "/key.php"}, "token=1200", 200, ""},
		"a promo channel for nobody":         {[]string{"/promo.php"}, "token=expired", 403, ""},
		"no promo channel for a subscriber":  {[]string{"/promo.php"}, "token=good", 200, ""},
		"a fatal error with status 200":      {[]string{"/fatal.php"}, "token=1", 200, ""},
		"a 403 before a slow body":           {[]string{"/slow.php"}, "token=1", 403, ""},
		"a script that is not there":         {[]string{"/none.php"}, "token=1", 403, ""},
		"an outage":                          {[]string{""}, "token=1", 403, ""},
		"an outage of one":                   {[]string{"", "/addresses.php"}, "token=1", 200, ""},
		"a key in the address":               {[]string{"/key.php?key=k"}, "token=1", 200, "auth-proxy drops the query of a configured address."},
		"a login page":                       {[]string{"/login.php"}, "token=1", 403, "auth-proxy admits viewers by a login page"},
		"many headers":                       {[]string{"/big.php"}, "token=1", 200, "auth-proxy refuses a response with more than 2 KB of headers."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var addresses, names []string
			members := ""
			for i, script := range test.scripts {
				address := refused
				if script != "" {
					php, _ := startPHP(t)
					address = php + script
				}
				addresses, names = append(addresses, address), append(names, fmt.Sprintf("m%d", i))
				members += fmt.Sprintf("  %s: { kind: httprequest, preset: auth-proxy, address: %q }\n", names[i], address)
			}
			address, _ := startNode(t, fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
routes: [ { path: "/*", backend: all, edge: { dialect: astra, networks: [ 127.0.0.1/32 ] } } ]
backends:
  all: { kind: any, on_failure: deny, backends: [ %s ] }
%s`, strings.Join(names, ", "), members), sdktrace.NewTracerProvider())
			got, _ := askAsAstra(t, http.MethodGet, address+"/?"+test.query)
			if got != test.want {
				t.Errorf("Usher answers %d, want %d", got, test.want)
			}
			if theirs := authProxy(t, test.query, addresses...); (theirs == got) != (test.because == "") {
				t.Errorf("auth-proxy answers %d and Usher %d", theirs, got)
			}
			if !strings.Contains(reasons, test.because) {
				t.Errorf("the page does not say %q", test.because)
			}
		})
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
