package gateway

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
)

// allDialects returns all dialects. Envoy does not ask over HTTP.
func allDialects() []edge.Dialect {
	return []edge.Dialect{edge.Astra, edge.Alta, edge.Flussonic, edge.Nginx, edge.ForwardAuth, edge.Envoy}
}

// proxyDialects returns the dialects of edges that check every request.
func proxyDialects() []edge.Dialect { return []edge.Dialect{edge.Nginx, edge.ForwardAuth, edge.Envoy} }

// edgeRoute returns a route for edges on the test's own machine, with the endpoint /auth.
func edgeRoute(d edge.Dialect, edits ...func(*RouteConfig)) RouteConfig {
	r := RouteConfig{Path: "/auth", Backend: "b", Edge: &edge.Config{
		Dialect: d, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ExtraLifetime: 90 * time.Second,
	}}
	if d == edge.Envoy {
		r.Path = ""
	}
	if !d.KeepsSessions() {
		r.Edge.ViewerPath = "/play/{channel}/*"
	}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

// matchBy edits edgeRoute's match_by.
func matchBy(how edge.MatchMode) func(*RouteConfig) {
	return func(r *RouteConfig) { r.Edge.MatchBy = how }
}

// edgeTestGateway is a testGateway for edges, without an origin.
type edgeTestGateway struct {
	testGateway
	log *logRecorder
}

// newEdgeTestGateway makes a gateway with these routes behind a listener. It has the backends b and p. edit may be nil.
func newEdgeTestGateway(t testing.TB, edit func(*Config), routes ...RouteConfig) *edgeTestGateway {
	t.Helper()
	g := newBareEdgeTestGateway(t, edit, routes...)
	front := httptest.NewServer(g.handler)
	t.Cleanup(front.Close)
	g.url = front.URL
	g.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(g.client.CloseIdleConnections)
	return g
}

// newBareEdgeTestGateway makes a gateway without a listener.
func newBareEdgeTestGateway(t testing.TB, edit func(*Config), routes ...RouteConfig) *edgeTestGateway {
	t.Helper()
	g := &edgeTestGateway{log: &logRecorder{}}
	c := testConfig("http://10.0.0.5:8000")
	c.Origins, c.Routes = nil, routes
	if edit != nil {
		edit(&c)
	}
	if err := c.Validate([]string{"b", "p"}); err != nil {
		t.Fatalf("config: %v", err)
	}
	g.table = &sessionTable{sessions: map[backends.SessionID]*fakeSession{}}
	var err error
	if g.Gateway, err = New(Options{
		Config: c, Sessions: g.table.asSessions(), RetryAfter: 2 * time.Second, Logger: slog.New(g.log),
	}); err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(g.Close)
	g.table.key = g.SigningKey
	g.handler = &testHandler{g.Gateway}
	return g
}

// edgeViewer is a viewer at an edge. Empty fields are not reported.
type edgeViewer struct {
	uri     string // path and query
	address string // 192.0.2.7 if empty
	agent   string // MAG250 if empty
	method  string
	scheme  string
	host    string
	referer string
	channel string // as the edge names it
	session string // as the edge names it
	fields  []string
}

// path and query return those of the URI.
func (v edgeViewer) path() string  { path, _, _ := strings.Cut(v.uri, "?"); return path }
func (v edgeViewer) query() string { _, query, _ := strings.Cut(v.uri, "?"); return query }

// channelName returns the channel as Flussonic names it: by default the whole path.
func (v edgeViewer) channelName() string { return cmp.Or(v.channel, strings.TrimPrefix(v.path(), "/")) }

// check sends the check that an edge of that dialect sends to /auth.
func (g *edgeTestGateway) check(t testing.TB, d edge.Dialect, v edgeViewer) reply {
	t.Helper()
	v.address, v.agent = cmp.Or(v.address, "192.0.2.7"), cmp.Or(v.agent, "MAG250")
	if d == edge.Envoy {
		return g.checkAsEnvoy(t, v)
	}
	path, fields := v.encode(d)
	return g.get(t, path, fields...)
}

// encode returns the path and the header fields of an edge's request.
func (v edgeViewer) encode(d edge.Dialect) (path string, fields []string) {
	setField := func(name, value string) {
		if value != "" {
			fields = append(fields, name+": "+value)
		}
	}
	path = "/auth"
	switch d {
	case edge.Flussonic:
		query := url.Values{"name": {v.channelName()}, "ip": {v.address}, "proto": {"hls"}, "request_number": {"0"}}
		for name, value := range map[string]string{
			"qs": v.query(), "user_agent": v.agent, "referer": v.referer, "host": v.host, "session_id": v.session,
		} {
			if value != "" {
				query.Set(name, value)
			}
		}
		return path + "?" + query.Encode(), append(v.fields, "User-Agent: Flussonic")
	case edge.Astra, edge.Alta:
		if v.query() != "" {
			path += "?" + v.query()
		}
		setField("X-Session-Id", v.session)
		setField("X-Real-Ip", v.address)
		setField("X-Real-Path", v.path())
		setField("X-Real-Ua", v.agent)
		if d == edge.Astra {
			setField("X-Real-Host", v.host)
			setField("X-Channel-Id", v.channel)
		} else if v.host != "" {
			setField("X-Real-Origin", v.scheme+"://"+v.host)
		}
	case edge.Nginx:
		setField("X-Original-Uri", v.uri)
		setField("X-Original-Method", v.method)
		setField("X-Real-Ip", v.address)
		setField("Host", v.host)
	default:
		setField("X-Forwarded-Uri", v.uri)
		setField("X-Forwarded-Method", v.method)
		setField("X-Forwarded-For", v.address)
		setField("X-Forwarded-Host", v.host)
	}
	if !d.KeepsSessions() {
		setField("X-Forwarded-Proto", v.scheme)
		setField("User-Agent", v.agent)
		setField("Referer", v.referer)
	}
	return path, append(fields, v.fields...)
}

func (g *edgeTestGateway) checkAsEnvoy(t testing.TB, v edgeViewer) reply {
	t.Helper()
	sent := http.Header{}
	for _, f := range v.fields {
		name, value, _ := strings.Cut(f, ": ")
		sent.Add(name, value)
	}
	q := edge.CheckRequest{
		Method: cmp.Or(v.method, http.MethodGet), Scheme: v.scheme, Host: v.host, Path: v.path(), Query: v.query(),
		Address: netip.MustParseAddr(v.address), UserAgent: v.agent, Referer: v.referer, Header: sent,
	}
	var a Response
	if err := g.Check(context.Background(), edge.Envoy, netip.MustParseAddr("127.0.0.1"), &q, &a); err != nil {
		t.Fatalf("Check: %v", err)
	}
	header := http.Header{}
	for _, f := range a.Fields() {
		header.Add(f.Name, f.Value)
	}
	return reply{a.Status, header, string(a.Body)}
}

// wantCheck sends a check and requires that status.
func (g *edgeTestGateway) wantCheck(t testing.TB, d edge.Dialect, status int, v edgeViewer) reply {
	t.Helper()
	got := g.check(t, d, v)
	if got.status != status {
		t.Fatalf("%s about %+v: got %d %q, want %d", d, v, got.status, got.body, status)
	}
	return got
}

// post sends Flussonic's check of a publisher.
func (g *edgeTestGateway) post(t testing.TB, path, body string) reply {
	t.Helper()
	resp, err := g.client.Post(g.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatalf("POST %s: %v", path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("POST %s: %v", path, err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

// openedIDs returns the sessions that were opened, each once, in order.
func (r *sessionTable) openedIDs() []backends.SessionID {
	var ids []backends.SessionID
	for _, a := range r.openRequests() {
		if !slices.Contains(ids, a.Request.Session) {
			ids = append(ids, a.Request.Session)
		}
	}
	return ids
}

// decideAll changes the decision of all live sessions.
func (r *sessionTable) decideAll(d backends.Decision) {
	for _, s := range r.liveSessions() {
		s.expires = time.Now().Add(7 * time.Second)
		s.decision.Store(&d)
	}
}

// decideByQuery decides by the viewer's query. Queries that are not in the table are denied.
func decideByQuery(table map[string]backends.Decision) func(session.OpenRequest) (backends.Decision, error) {
	return func(a session.OpenRequest) (backends.Decision, error) {
		if d, found := table[a.Request.Query]; found {
			return d, nil
		}
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
	}
}

// logRecorder is a slog.Handler that records lines.
type logRecorder struct {
	mu    sync.Mutex
	lines []string
}

// Enabled enables all levels.
func (j *logRecorder) Enabled(context.Context, slog.Level) bool { return true }

// Handle records a line: "LEVEL message name=value…".
func (j *logRecorder) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	return nil
}

// WithAttrs and WithGroup are not used.
func (j *logRecorder) WithAttrs([]slog.Attr) slog.Handler { return j }
func (j *logRecorder) WithGroup(string) slog.Handler      { return j }

func (j *logRecorder) recorded() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// containing returns the recorded lines that contain a text.
func (j *logRecorder) containing(text string) []string {
	return slices.DeleteFunc(j.recorded(), func(line string) bool { return !strings.Contains(line, text) })
}
