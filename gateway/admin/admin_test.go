package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const token = "a-token-of-the-operator"

// fakeNode is a node with n sessions, on two channels in turn.
type fakeNode struct {
	n     int
	ready bool
}

func (f fakeNode) Ready() bool { return f.ready }
func (f fakeNode) Len() int    { return f.n }

func (f fakeNode) Sessions(yield func(Session) bool) {
	for i := range f.n {
		s := Session{
			ID: fmt.Sprintf("id%d", i), Route: "play", Channel: fmt.Sprintf("a%d", i%2), Backend: "portal",
			User: "alice", UserID: "17", Verdict: "allowed", Source: "backend", Since: time.Unix(1_700_000_000, 0),
		}
		if i == 3 {
			s.User, s.UserID, s.Verdict, s.Source = "", "", "allowed", "fail-open"
		}
		if !yield(s) {
			return
		}
	}
}

func (f fakeNode) Backends() []Backend {
	return []Backend{{Name: "portal", Kind: "httprequest", Breaker: "open", OnFailure: "allow"}}
}

// ask sends a request to the listener of a node.
func ask(n Node, method, target, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	Handler(Config{Listen: ":0", Token: token}, n).ServeHTTP(w, r)
	return w
}

func TestTheAPINeedsTheToken(t *testing.T) {
	t.Parallel()
	for name, authorization := range map[string]string{
		"none":             "",
		"another":          "Bearer a-token-of-somebody-els",
		"a beginning":      "Bearer " + token[:len(token)-1],
		"a longer one":     "Bearer " + token + "x",
		"an empty one":     "Bearer ",
		"another scheme":   "Basic " + token,
		"without a scheme": token,
	} {
		for _, path := range []string{"/api/v1/sessions", "/api/v1/sessions/id1", "/api/v1/backends"} {
			w := ask(fakeNode{n: 3}, http.MethodGet, path, authorization)
			if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" || strings.Contains(w.Body.String(), "alice") {
				t.Errorf("%s, token: %s: got %d %q, want 401 and nothing else", path, name, w.Code, w.Body)
			}
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path  string
		ready bool
		want  int
	}{
		"alive while it drains":             {"/healthz", false, http.StatusOK},
		"alive":                             {"/healthz", true, http.StatusOK},
		"ready":                             {"/readyz", true, http.StatusOK},
		"not ready while it starts, drains": {"/readyz", false, http.StatusServiceUnavailable},
	} {
		if w := ask(fakeNode{ready: test.ready}, http.MethodGet, test.path, ""); w.Code != test.want {
			t.Errorf("%s: got %d, want %d", name, w.Code, test.want)
		}
	}
}

func TestSessionsAreListed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		query          string
		matched, shown int
	}{
		"all":                                  {"", 250, 100},
		"as many as asked for":                 {"?limit=7", 250, 7},
		"of a channel":                         {"?channel=a1&limit=1000", 125, 125},
		"of a user by name":                    {"?user=alice&limit=1000", 249, 249},
		"of a user by id":                      {"?user=17&limit=1000", 249, 249},
		"of a user who is not here":            {"?user=bob", 0, 0},
		"by verdict and source":                {"?verdict=allowed&source=fail-open", 1, 1},
		"by what nobody has":                   {"?backend=other", 0, 0},
		"by route":                             {"?route=play&limit=2", 250, 2},
		"of a channel that contradicts itself": {"?channel=a1&source=fail-open", 1, 1},
	} {
		w := ask(fakeNode{n: 250}, http.MethodGet, "/api/v1/sessions"+test.query, "Bearer "+token)
		var list struct {
			Total, Matched int
			Sessions       []Session
		}
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d, %v: %s", name, w.Code, err, w.Body)
		}
		if list.Total != 250 || list.Matched != test.matched || len(list.Sessions) != test.shown {
			t.Errorf("%s: total %d, matched %d, shown %d; want 250, %d, %d", name, list.Total, list.Matched,
				len(list.Sessions), test.matched, test.shown)
		}
	}
}

func TestALimitOutOfRangeIsRefused(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"0", "-1", "1001", "many", "1e3"} {
		w := ask(fakeNode{n: 1}, http.MethodGet, "/api/v1/sessions?limit="+limit, "Bearer "+token)
		if want := "want 1 to 1000"; w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("limit=%s: got %d %q, want 400 and %q", limit, w.Code, w.Body, want)
		}
	}
}

func TestOneSessionIsShown(t *testing.T) {
	t.Parallel()
	w := ask(fakeNode{n: 5}, http.MethodGet, "/api/v1/sessions/id4", "Bearer "+token)
	var s Session
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || s.ID != "id4" || s.User != "alice" {
		t.Errorf("got %d %+v (%v), want session id4", w.Code, s, err)
	}
	if w := ask(fakeNode{n: 5}, http.MethodGet, "/api/v1/sessions/id9", "Bearer "+token); w.Code != http.StatusNotFound {
		t.Errorf("a session that is not here: %d, want 404", w.Code)
	}
}

func TestBackendsAreShown(t *testing.T) {
	t.Parallel()
	w := ask(fakeNode{}, http.MethodGet, "/api/v1/backends", "Bearer "+token)
	want := `{"backends":[{"name":"portal","kind":"httprequest","breaker":"open","on_failure":"allow"}]}`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNothingIsToBeCachedOrWritten(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/healthz", "/readyz", "/api/v1/sessions", "/api/v1/backends"} {
		if w := ask(fakeNode{}, http.MethodGet, path, "Bearer "+token); w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q, want no-store", path, w.Header().Get("Cache-Control"))
		}
		if w := ask(fakeNode{}, http.MethodPost, path, "Bearer "+token); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d, want 405", path, w.Code)
		}
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"no listener needs nothing":    {Config{}, ""},
		"a good one":                   {Config{Listen: "127.0.0.1:8081", Token: token}, ""},
		"no address, and a weak token": {Config{Listen: "8081", Token: "short"}, "listen: \"8081\" is no address; want \"host:port\"\ntoken: has 5 characters; want at least 12"},
	} {
		got := ""
		if err := test.config.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
