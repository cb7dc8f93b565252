package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"usher/backends/backendtest"
)

// obligingOrigin serves the same media to any method and path, and records the requests.
type obligingOrigin struct {
	mu       sync.Mutex
	requests []*http.Request
}

func (o *obligingOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = append(o.requests, r)
	_, _ = io.WriteString(w, "media")
}

// asked returns the requests since the last call.
func (o *obligingOrigin) asked() []*http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	requests := o.requests
	o.requests = nil
	return requests
}

// startForEach runs a test with each edge in front of an obligingOrigin.
func startForEach(t *testing.T, test func(*testing.T, *edge, *obligingOrigin)) {
	t.Helper()
	for name, startEdge := range askingEdges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := &obligingOrigin{}
			server := httptest.NewServer(origin)
			t.Cleanup(server.Close)
			test(t, startEdge(t, &liveOrigin{url: server.URL}, ""), origin)
		})
	}
}

// send sends a request with fields, "Name: value", and returns the response and its body.
func (e *edge) send(t *testing.T, method, path string, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, e.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		req.Header[name] = []string{value} // as written
	}
	resp, err := e.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(body)
}

// TestEdges_Options_AnsweredByEdge sends OPTIONS without credentials, as a browser's preflight and bare. The origin gets none of them.
func TestEdges_Options_AnsweredByEdge(t *testing.T) {
	t.Parallel()
	startForEach(t, func(t *testing.T, e *edge, origin *obligingOrigin) {
		asked := []string{
			"Origin: https://tv.example.com", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization,range",
		}
		for _, path := range []string{"/play/a001/seg-17.ts", "/play/a001/index.m3u8"} {
			if strings.HasSuffix(t.Name(), "/Traefik") { // which answers preflights alone, with what is set
				e.wantOptions(t, path, asked, http.StatusOK, "GET,HEAD,OPTIONS", "*,Authorization,Range")
				e.wantOptions(t, path, nil, http.StatusForbidden, "", "")
			} else {
				e.wantOptions(t, path, asked, http.StatusNoContent, "GET, HEAD, OPTIONS", "authorization,range")
				e.wantOptions(t, path, nil, http.StatusNoContent, "GET, HEAD, OPTIONS", "")
			}
			if requests := origin.asked(); len(requests) > 0 {
				t.Errorf("OPTIONS %s: %d requests of the origin, want none", path, len(requests))
			}
		}
	})
}

// wantOptions sends OPTIONS with fields. headers is what Access-Control-Allow-Headers says to a preflight.
func (e *edge) wantOptions(t *testing.T, path string, fields []string, status int, methods, headers string) {
	t.Helper()
	resp, body := e.send(t, http.MethodOptions, path, fields...)
	if resp.StatusCode != status || status != http.StatusForbidden && body != "" {
		t.Errorf("OPTIONS %s with %q: %d %q, want %d", path, fields, resp.StatusCode, body, status)
	}
	want := map[string]string{"Access-Control-Allow-Origin": "*"}
	if methods != "" {
		want["Access-Control-Allow-Methods"], want["Access-Control-Max-Age"] = methods, "86400"
	}
	if headers != "" {
		want["Access-Control-Allow-Headers"] = headers
	}
	for field, text := range want {
		if got := resp.Header.Values(field); len(got) != 1 || got[0] != text {
			t.Errorf("OPTIONS %s with %q: %s is %q, want %q", path, fields, field, got, text)
		}
	}
}

// TestEdges_PageOfAnotherOrigin has a page play whose origin the edge is told, with the ticket's cookie, and any page without one. Each
// response answers once whether it may, whatever the origin of the media says.
func TestEdges_PageOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://own.example.com")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}))
	t.Cleanup(server.Close)
	origin := &liveOrigin{url: server.URL}
	const page, withCookie = "https://tv.example.com", "match_by: cookie"
	for name, test := range map[string]struct {
		start                 func(*testing.T, *liveOrigin, string) *edge
		change, page, mayShow string
	}{
		"nginx":               {startNginx, "", "*", ""},
		"nginx with cookie":   {startNginx, withCookie, page, "true"},
		"HAProxy with cookie": {startHAProxy, withCookie, page, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := test.start(t, origin, test.change)
			for _, request := range []struct {
				method, path string
				status       int
			}{
				{http.MethodOptions, "/play/a001/index.m3u8", http.StatusNoContent},
				{http.MethodGet, "/play/a001/index.m3u8?token=good", http.StatusOK},
				{http.MethodGet, "/play/a001/index.m3u8?token=bad", http.StatusForbidden},
			} {
				resp, _ := e.send(t, request.method, request.path, "Origin: "+page)
				pages, credentials := resp.Header.Values("Access-Control-Allow-Origin"), resp.Header.Values("Access-Control-Allow-Credentials")
				if resp.StatusCode != request.status || len(pages) != 1 || pages[0] != test.page || strings.Join(credentials, ",") != test.mayShow {
					t.Errorf("%s %s: %d, pages %q, credentials %q; want %d, %q, %q",
						request.method, request.path, resp.StatusCode, pages, credentials, request.status, test.page, test.mayShow)
				}
			}
		})
	}
}

// TestEdges_ForgedHeaders_Ignored has a viewer send the fields by which edges tell Usher what a viewer wants, and those by which Usher
// tells an origin of its viewer.
func TestEdges_ForgedHeaders_Ignored(t *testing.T) {
	t.Parallel()
	startForEach(t, func(t *testing.T, e *edge, origin *obligingOrigin) {
		const allowed = "/play/a001/index.m3u8?token=good"
		e.wantStatus(t, e.client, allowed, http.StatusOK)
		origin.asked()
		for _, separator := range []string{"-", "_"} { // some servers take one for the other
			for _, method := range []string{http.MethodGet, http.MethodOptions} {
				var fields []string
				for name, value := range map[string]string{
					"X-Forwarded-Uri": allowed, "X-Forwarded-Method": method, "X-Original-Uri": allowed, "X-Original-Method": method,
					"X-Original-Url": allowed, "X-Rewrite-Url": allowed, "X-Http-Method-Override": method,
				} {
					fields = append(fields, strings.ReplaceAll(name, "-", separator)+": "+value)
				}
				if resp, _ := e.send(t, http.MethodGet, "/play/b002/seg-17.ts", fields...); resp.StatusCode != http.StatusForbidden {
					t.Errorf("with %q: %d, want 403", fields, resp.StatusCode)
				}
			}
			for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip"} {
				name = strings.ReplaceAll(name, "-", separator)
				path := fmt.Sprintf("/play/a001/index.m3u8?token=good-%s", name)
				if resp, _ := e.send(t, http.MethodGet, path, name+": 192.0.2.99"); resp.StatusCode != http.StatusOK {
					t.Errorf("with %s: %d, want 200", name, resp.StatusCode)
				}
			}
		}
		if forged := e.sessions(t, "address=192.0.2.99"); len(forged) > 0 {
			t.Errorf("%d sessions have the address that the viewer made up, want none", len(forged))
		}
		if requests := origin.asked(); len(requests) != 10 {
			t.Errorf("the origin was asked %d times, want once for each playlist", len(requests))
		}
	})
}

// TestEdges_ForgedUser_NotPassedOn has a viewer name a user to the origin, when Usher knows the viewer's and when it knows none, and has
// the edge take what Usher says for fields of the viewer's connection, which no proxy passes on. nginx and HAProxy tell the origin of no
// user.
func TestEdges_ForgedUser_NotPassedOn(t *testing.T) {
	t.Parallel()
	origin := &obligingOrigin{}
	server := httptest.NewServer(origin)
	t.Cleanup(server.Close)
	e := startCaddy(t, &liveOrigin{url: server.URL}, "")
	for token, mode := range map[string]backendtest.Mode{"good": backendtest.Healthy(), "good-in-outage": backendtest.Refuse()} {
		setMode(t, e.middleware, mode)
		forged := []string{"X-Session-Name: forged", "X-Userid: forged", "X-Usher-Source: forged"}
		for _, fields := range [][]string{forged, append(forged, "Connection: keep-alive, X-Session-Name, X-Userid, X-Usher-Source")} {
			e.send(t, http.MethodGet, "/play/a001/index.m3u8?token="+token, fields...)
			requests := origin.asked()
			if len(requests) != 1 || strings.Contains(fmt.Sprint(requests[0].Header), "forged") || requests[0].Header.Get("X-Usher-Source") == "" {
				t.Errorf("%s with %q: the origin got %d requests, %v; want one, of the user that Usher knows", token, fields, len(requests), requests)
			}
		}
	}
}
