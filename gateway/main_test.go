package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/gateway/gatewaytest"
	"usher/gateway/origin"
	"usher/gateway/ticket"
	"usher/gateway/variants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSessions implements Sessions by functions.
type fakeSessions struct {
	find func(backends.SessionID) session.Handle
	open func(context.Context, session.OpenRequest) (session.Handle, error)
}

func (f *fakeSessions) Find(id backends.SessionID) session.Handle { return f.find(id) }

func (f *fakeSessions) Open(ctx context.Context, a session.OpenRequest) (session.Handle, error) {
	return f.open(ctx, a)
}

// fakeSession is a session with a decision.
type fakeSession struct {
	session.Handle // the rest, which the gateway does not call

	decision atomic.Pointer[backends.Decision]
	ticket   session.Ticket
	expires  time.Time
	seen     atomic.Int64
	sent     atomic.Int64

	inFlight, target atomic.Int64
	isComplete       atomic.Bool
	lastSeen         atomic.Int64 // in Unix nanoseconds

	request atomic.Pointer[backends.Request]

	mu       sync.Mutex
	prefixes []netip.Prefix // that may use it though it is shared
}

func (s *fakeSession) Decision() *backends.Decision { return s.decision.Load() }
func (s *fakeSession) Ticket() session.Ticket       { return s.ticket }
func (s *fakeSession) Expires() time.Time           { return s.expires }
func (s *fakeSession) LastSeen() time.Time          { return time.Unix(0, s.lastSeen.Load()) }
func (s *fakeSession) Begin()                       { s.inFlight.Add(1) }
func (s *fakeSession) End(time.Time)                { s.inFlight.Add(-1) }
func (s *fakeSession) Sent(n int64)                 { s.sent.Add(n) }
func (s *fakeSession) Request() *backends.Request   { return s.request.Load() }

func (s *fakeSession) TargetDuration() (target time.Duration, isComplete bool) {
	return time.Duration(s.target.Load()), s.isComplete.Load()
}

func (s *fakeSession) SetTargetDuration(target time.Duration, isComplete bool) {
	s.target.Store(int64(target))
	s.isComplete.Store(isComplete)
}

func (s *fakeSession) Seen(now time.Time, _ bool) {
	s.seen.Add(1)
	s.lastSeen.Store(now.UnixNano())
}

func (s *fakeSession) Admit(prefix netip.Prefix, _ time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.prefixes, prefix)
}

func (s *fakeSession) admit(prefix netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefixes = append(s.prefixes, prefix)
}

// sessionTable holds a test's sessions and records the requests to open them. It allows all unless decideFunc is set, and
// remembers denials.
type sessionTable struct {
	decideFunc func(session.OpenRequest) (backends.Decision, error)
	key        func() string

	mu       sync.Mutex
	sessions map[backends.SessionID]*fakeSession
	requests []session.OpenRequest
}

func (r *sessionTable) asSessions() *fakeSessions { return &fakeSessions{find: r.find, open: r.open} }

func (r *sessionTable) find(id backends.SessionID) session.Handle {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[id]; s != nil {
		return s
	}
	return nil
}

func (r *sessionTable) open(_ context.Context, a session.OpenRequest) (session.Handle, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, a)
	d := backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}
	if r.decideFunc != nil {
		var err error
		if d, err = r.decideFunc(a); err != nil {
			return nil, err
		}
	}
	s := r.sessions[a.Request.Session]
	if s != nil && s.Decision() != nil && s.Decision().Verdict == backends.Denied && time.Now().Before(s.expires) {
		return s, nil // a denial is remembered
	}
	if s == nil {
		s = &fakeSession{ticket: a.Ticket}
		if s.ticket.IsZero() {
			s.ticket = session.Ticket{Opened: time.Now().Truncate(time.Second), KeyID: r.key()}
		}
		s.request.Store(a.Request)
		if d.Verdict == backends.Denied {
			s.expires = time.Now().Add(7 * time.Second)
		}
		r.sessions[a.Request.Session] = s
	}
	s.admit(backends.SubscriberPrefix(a.Request.Address))
	s.decision.Store(&d)
	return s, nil
}

func (r *sessionTable) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.sessions)
	r.requests = nil
}

func (r *sessionTable) openRequests() []session.OpenRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

func (r *sessionTable) liveSessions() []*fakeSession {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*fakeSession
	for _, s := range r.sessions {
		all = append(all, s)
	}
	return all
}

// testGateway is a gateway behind a testHandler, with an origin on a real socket and a sessionTable.
type testGateway struct {
	*Gateway
	handler  *testHandler
	table    *sessionTable
	upstream *gatewaytest.Origin
	url      string
	client   *http.Client
}

const (
	mediaPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:6,\nseg-17.ts\n#EXTINF:6,\nseg-18.ts\n"
	segment       = "the seventeenth segment"
)

// testHandler serves a gateway by net/http, as far as these tests need it. The fronts have tests of their own.
type testHandler struct{ gateway *Gateway }

func (h *testHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, resp := newTestRequest(r), &Response{}
	defer resp.Reset()
	if err := h.gateway.Serve(r.Context(), &req, resp); err != nil {
		panic(http.ErrAbortHandler)
	}
	for _, f := range resp.Fields() {
		w.Header().Add(f.Name, f.Value)
	}
	if w.Header().Get("Content-Length") == "" && resp.StatesLength(r.Method) {
		w.Header().Set("Content-Length", strconv.Itoa(len(resp.Body)))
	}
	w.WriteHeader(resp.Status)
	body, err := resp.Body, error(nil)
	if resp.Stream != nil {
		defer func() { _ = resp.Stream.Close() }()
		body, err = resp.next(w)
	}
	for ; err == nil && len(body) > 0; body, err = resp.next(w) {
		n, _ := w.Write(body)
		resp.Sent(int64(n))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		h.gateway.StreamBroken(err, resp)
		panic(http.ErrAbortHandler)
	}
}

// next returns the next part of the response's body. What was written before reaches the viewer without waiting for it.
func (resp *Response) next(w http.ResponseWriter) ([]byte, error) {
	if resp.Stream == nil {
		return nil, io.EOF
	}
	if !resp.Stream.IsReady() {
		_ = http.NewResponseController(w).Flush()
	}
	return resp.Stream.Next()
}

func newTestRequest(r *http.Request) Request {
	req := Request{
		Method: r.Method, Scheme: "http", Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: r.Header, Body: r.Body,
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		req.Peer = peer.Addr().Unmap()
	}
	return req
}

// testConfig returns a config with one route, /play/{channel}/*. The test's own address is a trusted proxy, so that requests
// can come from anywhere.
func testConfig(originURL string) Config {
	c := DefaultConfig()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	c.Identity.Secret = "an identity secret"
	c.Tickets.Keys = []setting.Key{{ID: "a", Secret: "the first ticket secret"}}
	c.Origins = map[string]*OriginConfig{"o": {URL: originURL}}
	c.Routes = []RouteConfig{{Path: "/play/{channel}/*", Origin: "o", Backend: "b"}}
	return c
}

// newTestGateway makes a gateway. edit may be nil.
func newTestGateway(t testing.TB, edit func(*Config)) *testGateway {
	t.Helper()
	g := &testGateway{upstream: gatewaytest.NewOrigin(t)}
	g.upstream.Files["/play/a001/index.m3u8"], g.upstream.Files["/play/a001/seg-17.ts"] = mediaPlaylist, segment
	c := testConfig(g.upstream.URL)
	if edit != nil {
		edit(&c)
	}
	g.Gateway, g.table = newBareGateway(t, c)
	g.handler = &testHandler{g.Gateway}
	front := httptest.NewServer(g.handler)
	t.Cleanup(front.Close)
	g.url = front.URL
	g.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(g.client.CloseIdleConnections)
	return g
}

// newBareGateway makes the gateway of a valid config, with its origins and a sessionTable, and without a server.
func newBareGateway(t testing.TB, c Config, opts ...origin.Option) (*Gateway, *sessionTable) {
	t.Helper()
	if err := c.Validate([]string{"b"}); err != nil {
		t.Fatalf("config: %v", err)
	}
	log := slog.New(slog.DiscardHandler)
	fetch := origin.DefaultConfig()
	cache, err := origin.NewCache(fetch.Cache, log)
	if err != nil {
		t.Fatalf("NewCache: %v", err)
	}
	t.Cleanup(cache.Close)
	origins := map[string]*origin.Origin{}
	for name, o := range c.Origins {
		urls, err := o.URLs()
		if err != nil {
			t.Fatalf("origin %s: %v", name, err)
		}
		if origins[name], err = origin.New(name, urls, cache, fetch, log, append(opts, origin.WithUpstream(o.Upstream))...); err != nil {
			t.Fatalf("origin %s: %v", name, err)
		}
		t.Cleanup(origins[name].Close)
	}
	r := &sessionTable{sessions: map[backends.SessionID]*fakeSession{}}
	e, err := New(Options{
		Config: c, Sessions: r.asSessions(), Origins: origins,
		MaxVariants: 8, IdleTimeout: time.Minute, RetryAfter: 2 * time.Second, Logger: log,
	})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(e.Close)
	r.key = e.SigningKey
	return e, r
}

// reply is the response that a client received.
type reply struct {
	status int
	header http.Header
	body   string
}

// useLogger replaces the gateway's logger, before its first request.
func (g *testGateway) useLogger(log *slog.Logger) {
	o := &g.Gateway.options
	o.Logger = log
	g.variants.Close()
	g.variants = variants.New(o.MaxVariants, o.IdleTimeout, o.Sessions.Find, log)
}

// recordRefusals returns a function that returns the refusals counted since, each as "route reason". It is called before the
// gateway's first request.
func (g *testGateway) recordRefusals() func() []string {
	var mu sync.Mutex
	var counted []string
	g.options.OnRefusal = func(route, reason string) {
		mu.Lock()
		defer mu.Unlock()
		counted = append(counted, route+" "+reason)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(counted)
	}
}

// do sends one request; the fields are "Name: value".
func (g *testGateway) do(t testing.TB, method, path string, fields ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, g.url+path, nil)
	if err != nil {
		t.Fatalf("request %s %s: %v", method, path, err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: read the body: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func (g *testGateway) get(t testing.TB, path string, fields ...string) reply {
	t.Helper()
	return g.do(t, http.MethodGet, path, fields...)
}

// want gets a path and requires that status.
func (g *testGateway) want(t testing.TB, status int, path string, fields ...string) reply {
	t.Helper()
	got := g.get(t, path, fields...)
	if got.status != status {
		t.Fatalf("GET %s %q: got %d %q, want %d", path, fields, got.status, got.body, status)
	}
	return got
}

// testAddress returns the prefix of the viewers of these tests.
func testAddress() netip.Prefix { return netip.MustParsePrefix("127.0.0.1/32") }

// ticket opens a session on the channel and returns its ticket.
func (g *testGateway) ticket(t testing.TB, channel string) string {
	t.Helper()
	id := backends.SessionID{1}
	copy(id[1:], channel)
	tk := session.Ticket{Opened: time.Now().Truncate(time.Second), KeyID: g.SigningKey()}
	s := &fakeSession{ticket: tk}
	s.decision.Store(&backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend})
	s.request.Store(&backends.Request{Address: testAddress().Addr()})
	g.table.mu.Lock()
	g.table.sessions[id] = s
	g.table.mu.Unlock()
	return g.signer.Sign(ticket.Claims{ID: id, Ticket: tk, Tag: g.hasher.tag(testAddress())}, ticket.Scope{Route: g.routes[0].name, Channel: channel})
}

// waitFor waits until a condition holds.
func waitFor(t testing.TB, what string, fact func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; !fact(); i++ {
		if i > 20_000 {
			t.Fatalf("condition not reached: %s", what)
		}
		<-tick.C
	}
}

// advance lets fake time pass.
func advance(d time.Duration) { <-time.After(d) }

// uris returns the lines of a playlist that are URIs.
func uris(playlist string) []string {
	var all []string
	for line := range strings.Lines(playlist) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all
}

// forwardedFor returns the field with which the test's own address, a trusted proxy, forwards a viewer's.
func forwardedFor(address string) string { return fmt.Sprint("X-Forwarded-For: ", address) }

// memoryServer serves a gateway behind a listener in memory, with an origin without a network, for use within synctest.Test.
type memoryServer struct {
	*gatewaytest.Listener
	table  *sessionTable
	ticket string
}

func newMemoryServer(t *testing.T, edit func(*Config), o gatewaytest.OriginFunc) *memoryServer {
	t.Helper()
	c := testConfig("http://origin.example.com")
	if edit != nil {
		edit(&c)
	}
	b := &memoryServer{Listener: gatewaytest.NewListener()}
	core, table := newBareGateway(t, c, origin.WithTransport(o))
	b.table = table
	b.ticket = (&testGateway{Gateway: core, table: table}).ticket(t, "a001")
	server := &http.Server{Handler: &testHandler{core}, ReadHeaderTimeout: time.Hour, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.Serve(b.Listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return b
}

// foundTarget returns what findTarget finds.
func foundTarget(routes []*route, host, path string) (t target, found bool) {
	found = findTarget(routes, host, path, &t)
	return t, found
}

// forged returns a ticket with another character near its end.
func forged(ticket string) string {
	at, other := len(ticket)-5, "A"
	if ticket[at] == 'A' {
		other = "B"
	}
	return ticket[:at] + other + ticket[at+1:]
}
