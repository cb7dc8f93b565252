package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

const token = "an operator's token"

// fakeNode is a node without others, with fixed values.
type fakeNode struct {
	Cluster  // the rest, which only a fakeCluster has
	ready    bool
	sessions []Session
	backends []Backend
}

func (n *fakeNode) Ready() bool         { return n.ready }
func (n *fakeNode) Name() string        { return "" }
func (n *fakeNode) Live() int           { return 1 }
func (n *fakeNode) RedisDown() bool     { return false }
func (n *fakeNode) RoundTrips() uint64  { return 0 }
func (n *fakeNode) Bans() []session.Ban { return nil }
func (n *fakeNode) Len() int            { return len(n.sessions) }
func (n *fakeNode) Backends() []Backend { return n.backends }

func (n *fakeNode) EachSession(yield func(Session) bool) {
	for _, s := range n.sessions {
		if !yield(s) {
			return
		}
	}
}

func (n *fakeNode) Find(id backends.SessionID) session.Handle { return nil }

func (n *fakeNode) Ask(ctx context.Context, request []byte) (map[string][]byte, []string) {
	return map[string][]byte{"": answerBody(ctx, n.EachSession, request)}, nil
}

// options returns the node as the listener's dependencies.
func (n *fakeNode) options() Options {
	warnings := func() []string { return []string{"no viewers", "no beer"} }
	return Options{Sessions: n, Cluster: n, Ready: n.Ready, Warnings: warnings, Backends: n.Backends}
}

func newFakeNode() *fakeNode {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &fakeNode{
		sessions: []Session{
			{
				ID: "s1", Route: "/play/{channel}/*", Channel: "a001", Backend: "portal", User: "Ann", UserID: "17",
				Address: "192.0.2.7", UserAgent: "MAG250", Verdict: "allowed", Source: "backend",
				Reason: "backend answered 200", Started: at, LastSeen: at.Add(time.Minute), Requests: 12, Bytes: 3456,
			},
			{ID: "s2", Route: "/play/{channel}/*", Channel: "a002", Backend: "portal", User: "17", Verdict: "allowed", Source: "fail-open"},
			{ID: "s3", Route: "vod", Channel: "a001", Backend: "local", Verdict: "denied", Source: "local"},
		},
		backends: []Backend{{Name: "portal", Kind: "ministra", Breaker: "open", OnFailure: "allow"}},
	}
}

// reply is a response of the listener.
type reply struct {
	status int
	header http.Header
	body   string
}

func request(t *testing.T, n *fakeNode, method, path, authorization string) reply {
	t.Helper()
	server := httptest.NewServer(newHandler(t, Config{Token: token}, n.options()))
	defer server.Close()
	r, err := http.NewRequestWithContext(context.Background(), method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func get(t *testing.T, n *fakeNode, path string) reply {
	t.Helper()
	return request(t, n, http.MethodGet, path, "Bearer "+token)
}

func TestHandler_API_RequiresToken(t *testing.T) {
	t.Parallel()
	const want = "the API needs the header Authorization: Bearer <token>, with admin.token or one of admin.tokens\n"
	cases := map[string]string{
		"nothing":                "",
		"an empty token":         "Bearer ",
		"another token":          "Bearer another operator",
		"the beginning of it":    "Bearer " + token[:len(token)-1],
		"more than it":           "Bearer " + token + "x",
		"another last character": "Bearer " + token[:len(token)-1] + "N",
		"no scheme":              token,
		"another scheme":         "Basic " + token,
	}
	for name, authorization := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/api/v1/sessions", "/api/v1/sessions/s1", "/api/v1/sessions/none", "/api/v1/backends"} {
				got := request(t, newFakeNode(), http.MethodGet, path+"?token="+strings.ReplaceAll(token, " ", "+"), authorization)
				if got.status != 401 || got.body != want || got.header.Get("Www-Authenticate") != `Bearer realm="usher"` {
					t.Errorf("%s: got %d %q %q", path, got.status, got.body, got.header.Get("Www-Authenticate"))
				}
			}
		})
	}
}

func TestHandler_HealthAndReadiness_NoToken(t *testing.T) {
	t.Parallel()
	type answer struct {
		Status int
		Body   string
	}
	cases := map[string]struct {
		path  string
		ready bool
		want  answer
	}{
		"alive and ready":           {"/healthz", true, answer{200, "alive\n"}},
		"alive though not ready":    {"/healthz", false, answer{200, "alive\n"}},
		"ready":                     {"/readyz", true, answer{200, "ready\n"}},
		"not ready, for a balancer": {"/readyz", false, answer{503, "not ready: starting or draining\n"}},
		"ready, for an operator":    {"/readyz?verbose", true, answer{200, "ready\nwarning: no viewers\nwarning: no beer\n"}},
		"not ready, for an operator": {
			"/readyz?verbose=1", false,
			answer{503, "not ready: starting or draining\nwarning: no viewers\nwarning: no beer\n"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode()
			n.ready = tc.ready
			got := request(t, n, http.MethodGet, tc.path, "")
			if diff := cmp.Diff(tc.want, answer{got.status, got.body}); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be stored")
			}
		})
	}
}

func TestHandler_NoTokenConfigured_Unauthorized(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/sessions", nil)
	r.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	newHandler(t, Config{}, newFakeNode().options()).ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("got %d", w.Code)
	}
}

// list is a response of /api/v1/sessions.
type list struct {
	Total, Matched int
	Sessions       []Session
}

func TestHandler_Sessions_Filtered(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		query   string
		want    []string
		matched int
	}{
		"all":                       {"", []string{"s1", "s2", "s3"}, 3},
		"by channel":                {"?channel=a001", []string{"s1", "s3"}, 2},
		"by route":                  {"?route=%2Fplay%2F%7Bchannel%7D%2F*", []string{"s1", "s2"}, 2},
		"by backend":                {"?backend=local", []string{"s3"}, 1},
		"by a user's name":          {"?user=Ann", []string{"s1"}, 1},
		"by a user's id or name":    {"?user=17", []string{"s1", "s2"}, 2},
		"by verdict":                {"?verdict=denied", []string{"s3"}, 1},
		"by source":                 {"?source=fail-open", []string{"s2"}, 1},
		"by several":                {"?channel=a001&verdict=allowed", []string{"s1"}, 1},
		"by an unknown channel":     {"?channel=a003", []string{}, 0},
		"by an empty value":         {"?channel=", []string{"s1", "s2", "s3"}, 3},
		"no more than asked for":    {"?limit=2", []string{"s1", "s2"}, 3},
		"the smallest limit":        {"?limit=1", []string{"s1"}, 3},
		"the largest limit":         {"?limit=1000", []string{"s1", "s2", "s3"}, 3},
		"by a part of the name":     {"?user=An", []string{}, 0},
		"by the name in other case": {"?user=ann", []string{}, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := get(t, newFakeNode(), "/api/v1/sessions"+tc.query)
			var l list
			if err := json.Unmarshal([]byte(got.body), &l); err != nil || got.status != 200 {
				t.Fatalf("got %d %q: %v", got.status, got.body, err)
			}
			ids := []string{}
			for _, s := range l.Sessions {
				ids = append(ids, s.ID)
			}
			if diff := cmp.Diff(tc.want, ids); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
			if l.Total != 3 || l.Matched != tc.matched {
				t.Errorf("got %d of %d, want %d of 3", l.Matched, l.Total, tc.matched)
			}
			if got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("header: %v", got.header)
			}
		})
	}
}

func TestHandler_Sessions_LimitBounded(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"0", "-1", "1001", "x", "1e2", "99999999999999999999"} {
		if got := get(t, newFakeNode(), "/api/v1/sessions?limit="+limit); got.status != 400 || got.body != "limit: invalid input; want 1 to 1000\n" {
			t.Errorf("limit=%s: got %d %q", limit, got.status, got.body)
		}
	}
	n := newFakeNode()
	for i := range 2000 {
		n.sessions = append(n.sessions, Session{ID: fmt.Sprint(i), Verdict: "allowed", Source: "backend"})
	}
	for _, query := range []string{"", "?limit=&verdict=&address=&after="} { // an empty value is none
		var l list
		if err := json.Unmarshal([]byte(get(t, n, "/api/v1/sessions"+query).body), &l); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if len(l.Sessions) != defaultLimit || l.Matched != 2003 {
			t.Errorf("%s: got %d sessions of %d, want %d of 2003", query, len(l.Sessions), l.Matched, defaultLimit)
		}
	}
}

func TestHandler_Session_AllFields(t *testing.T) {
	t.Parallel()
	got := get(t, newFakeNode(), "/api/v1/sessions/s1")
	want := `{"id":"s1","route":"/play/{channel}/*","channel":"a001","backend":"portal","user":"Ann","user_id":"17",` +
		`"address":"192.0.2.7","user_agent":"MAG250","verdict":"allowed","source":"backend","reason":"backend answered 200",` +
		`"started":"2026-03-01T12:00:00Z","last_seen":"2026-03-01T12:01:00Z","requests":12,"bytes":3456}` + "\n"
	if diff := cmp.Diff(want, got.body); diff != "" || got.status != 200 {
		t.Errorf("status %d, body (-want +got):\n%s", got.status, diff)
	}
	if got := get(t, newFakeNode(), "/api/v1/sessions/s9"); got.status != 404 || got.body != "no live session has this id\n" {
		t.Errorf("another: got %d %q", got.status, got.body)
	}
}

func TestHandler_Backends(t *testing.T) {
	t.Parallel()
	got := get(t, newFakeNode(), "/api/v1/backends")
	want := `{"backends":[{"name":"portal","kind":"ministra","breaker":"open","on_failure":"allow"}]}` + "\n"
	if diff := cmp.Diff(want, got.body); diff != "" || got.status != 200 {
		t.Errorf("status %d, body (-want +got):\n%s", got.status, diff)
	}
}

func TestHandler_Routes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		routes func() []Route
		want   string
	}{
		"nothing known of routes": {nil, `{"routes":null}`},
		"a route that refuses and one that counts": {
			func() []Route {
				return []Route{{Name: "play", Enforce: true}, {Name: "tv", UnenforcedRefusals: map[string]uint64{"denied": 3}}}
			},
			`{"routes":[{"name":"play","enforce":true},{"name":"tv","enforce":false,"unenforced_refusals":{"denied":3}}]}`,
		},
	} {
		o := newFakeNode().options()
		o.Routes = test.routes
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/routes", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		newHandler(t, Config{Token: token}, o).ServeHTTP(w, r)
		if diff := cmp.Diff(test.want+"\n", w.Body.String()); diff != "" || w.Code != http.StatusOK {
			t.Errorf("%s: status %d, body (-want +got):\n%s", name, w.Code, diff)
		}
	}
}

func TestHandler_Origins(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		origins func() []Origin
		want    string
		series  string
	}{
		"nothing known of origins": {nil, `{"origins":null}`, ""},
		"one that fails viewers": {
			func() []Origin {
				return []Origin{{
					Name: "astra", Addresses: []OriginAddress{{URL: "http://10.0.0.5:8000/", Ejected: true}},
					Counters: OriginCounters{Fetches: 9},
					Failures: []OriginFailure{{
						Reason: "forbidden", Channel: "a001", URL: "http://10.0.0.5:8000/a001/index.m3u8", Status: 403,
						Error: "status 403", Advice: "set headers", Time: time.Unix(1e9, 0).UTC(), Count: 3,
					}},
				}}
			},
			`{"origins":[{"name":"astra","addresses":[{"url":"http://10.0.0.5:8000/","ejected":true}],"failures":[{"reason":"forbidden",` +
				`"channel":"a001","url":"http://10.0.0.5:8000/a001/index.m3u8","status":403,"error":"status 403","advice":"set headers",` +
				`"time":"2001-09-09T01:46:40Z","count":3}],"counters":{"hits":0,"fetches":9,"coalesced":0,"revalidated":0,"stale":0,"failovers":0,"bytes":0}}]}`,
			`usher_origin_failures_total{origin="astra",reason="forbidden"} 3`,
		},
	} {
		o := newFakeNode().options()
		o.Origins = test.origins
		h := newHandler(t, Config{Token: token}, o)
		ask := func(path string) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		w := ask("/api/v1/origins")
		if diff := cmp.Diff(test.want+"\n", w.Body.String()); diff != "" || w.Code != http.StatusOK {
			t.Errorf("%s: status %d, body (-want +got):\n%s", name, w.Code, diff)
		}
		if scrape := ask("/metrics").Body.String(); !strings.Contains(scrape, test.series) || strings.Contains(scrape, "usher_origin") != (test.series != "") {
			t.Errorf("%s: the metrics have no series %q, or another", name, test.series)
		}
	}
}

func TestConfigWarnings(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"":                 "",
		"8081":             "",
		"127.0.0.1:8081":   "",
		"192.168.1.2:8081": "",
		"localhost:8081":   "",
		":8081":            `listen: ":8081" listens on every network of this machine without TLS: `,
		"0.0.0.0:8081":     `listen: "0.0.0.0:8081" listens on every network of this machine without TLS: `,
		"[::]:8081":        `listen: "[::]:8081" listens on every network of this machine without TLS: `,
		"203.0.114.1:8081": `listen: "203.0.114.1:8081" is a public address without TLS: `,
		"[2a00::1]:8081":   `listen: "[2a00::1]:8081" is a public address without TLS: `,
	} {
		got := ""
		if err := (Config{Listen: listen}).Warnings(); err != nil {
			got = err.Error()
		}
		if (got == "") != (want == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q, want %q", listen, got, want)
		}
	}
}

func TestHandler_ResponsesHoldNoQueryOrToken(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"/healthz", "/readyz", "/metrics", "/api/v1/sessions", "/api/v1/sessions/s1", "/api/v1/backends", "/api/v1/nothing", "/",
	} {
		for _, authorization := range []string{"", "Bearer s3cret", "Bearer " + token} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path+"?limit=s3cret&user=s3cret&token=s3cret", nil)
			r.Header.Set("Authorization", authorization)
			got := httptest.NewRecorder()
			Handler(Config{Token: token}, newFakeNode().options()).ServeHTTP(got, r) // the document has none of these parameters
			all := fmt.Sprint(got.Body, got.Header())
			if strings.Contains(all, "s3cret") || strings.Contains(all, token) {
				t.Errorf("%s: %s", path, all)
			}
		}
	}
	shown := fmt.Sprintf("%v %+v %#v", Config{Token: token}, Config{Token: token}, Config{Token: token})
	if strings.Contains(shown, token) {
		t.Errorf("the config shows its token: %s", shown)
	}
}

func TestHandler_List_ReadOnly(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut} {
		if got := request(t, newFakeNode(), method, "/api/v1/sessions", "Bearer "+token); got.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d", method, got.status)
		}
	}
}

func TestAnswerSessionQuery_ContextEnds_Stops(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/sessions", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	n := &countingNode{}
	o := n.options()
	o.Cluster = n
	newHandler(t, Config{Token: token}, o).ServeHTTP(httptest.NewRecorder(), r)
	if n.yielded != 1 {
		t.Errorf("%d sessions were read after the reader had left", n.yielded)
	}
}

// countingNode has an endless number of sessions and counts those that were read.
type countingNode struct {
	fakeNode
	yielded int
}

func (n *countingNode) Ask(ctx context.Context, request []byte) (map[string][]byte, []string) {
	return map[string][]byte{"": answerBody(ctx, n.EachSession, request)}, nil
}

func (n *countingNode) EachSession(yield func(Session) bool) {
	for range 1000 {
		n.yielded++
		if !yield(Session{}) {
			return
		}
	}
}

func TestConfigValidate_ReportsEveryProblem(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		config Config
		want   string
	}{
		"the default":       {DefaultConfig(), ""},
		"no listener":       {Config{Token: "x"}, ""},
		"a valid config":    {Config{Listen: "127.0.0.1:8081", Token: token}, ""},
		"no address":        {Config{Listen: "8081", Token: token}, `listen: "8081" is no address; want "host:port" or ":port"`},
		"no token":          {Config{Listen: ":8081"}, "token: has 0 characters; want at least 12"},
		"a token just so":   {Config{Listen: ":8081", Token: "twelve-chars"}, ""},
		"a short token":     {Config{Listen: ":8081", Token: "guess"}, "token: has 5 characters; want at least 12"},
		"everything at one": {Config{Listen: "x"}, "listen: \"x\" is no address; want \"host:port\" or \":port\"\ntoken: has 0 characters; want at least 12"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := tc.config.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}
