package front

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/gateway"
	"usher/gateway/front/nethttp"
	"usher/gateway/front/plain"
	"usher/gateway/gatewaytest"
	"usher/gateway/origin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSession is a session with a decision.
type fakeSession struct {
	session.Handle // the rest, which the gateway does not call

	decision   backends.Decision
	ticket     session.Ticket
	request    *backends.Request
	seen, sent atomic.Int64

	inFlight, target atomic.Int64
	isComplete       atomic.Bool
}

func (s *fakeSession) Decision() *backends.Decision       { return &s.decision }
func (s *fakeSession) Ticket() session.Ticket             { return s.ticket }
func (s *fakeSession) Begin()                             { s.inFlight.Add(1) }
func (s *fakeSession) End(time.Time)                      { s.inFlight.Add(-1) }
func (s *fakeSession) Sent(n int64)                       { s.sent.Add(n) }
func (s *fakeSession) Seen(time.Time, bool)               { s.seen.Add(1) }
func (s *fakeSession) Request() *backends.Request         { return s.request }
func (s *fakeSession) Expires() time.Time                 { return time.Now().Add(time.Minute) }
func (s *fakeSession) Admit(netip.Prefix, time.Time) bool { return true }

func (s *fakeSession) TargetDuration() (target time.Duration, isComplete bool) {
	return time.Duration(s.target.Load()), s.isComplete.Load()
}

func (s *fakeSession) SetTargetDuration(target time.Duration, isComplete bool) {
	s.target.Store(int64(target))
	s.isComplete.Store(isComplete)
}

// sessionTable holds a test's sessions. It allows all, or asks openFunc.
type sessionTable struct {
	openFunc func(context.Context, session.OpenRequest) (session.Handle, error)
	keyID    string

	mu       sync.Mutex
	sessions map[backends.SessionID]*fakeSession
	order    []*fakeSession
}

func newSessionTable() *sessionTable {
	return &sessionTable{sessions: map[backends.SessionID]*fakeSession{}, keyID: "a"}
}

// Find returns the session of that id, or nil.
func (r *sessionTable) Find(id backends.SessionID) session.Handle {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[id]; s != nil {
		return s
	}
	return nil
}

// Open returns a session that is allowed.
func (r *sessionTable) Open(ctx context.Context, o session.OpenRequest) (session.Handle, error) {
	if r.openFunc != nil {
		return r.openFunc(ctx, o)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[o.Request.Session]
	if s == nil {
		s = &fakeSession{ticket: o.Ticket, request: o.Request}
		s.decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}
		if s.ticket.IsZero() {
			s.ticket = session.Ticket{Opened: time.Now().Truncate(time.Second), KeyID: r.keyID}
		}
		r.sessions[o.Request.Session] = s
		r.order = append(r.order, s)
	}
	return s, nil
}

// all returns the sessions in the order in which they were opened.
func (r *sessionTable) all() []*fakeSession {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.order)
}

// sent returns how many bytes are counted as sent to the viewers of all sessions.
func (r *sessionTable) sent() (total int64) {
	for _, s := range r.all() {
		total += s.sent.Load()
	}
	return total
}

// frontKind is what serves a listener without TLS.
type frontKind string

const (
	netHTTP    frontKind = "net/http"
	plainFront frontKind = "plain"
)

// eachFront runs a test over each front.
func eachFront(t *testing.T, test func(*testing.T, frontKind)) {
	for _, f := range []frontKind{netHTTP, plainFront} {
		t.Run(string(f), func(t *testing.T) { test(t, f) })
	}
}

// answerBy is the plain front's handler of one gateway.
type answerBy struct{ *gateway.Gateway }

// Serve answers a request.
func (a answerBy) Serve(x *plain.Exchange) { x.Answer(a.Gateway) }

// testServer is a Server on a real socket, over a gateway with an origin on a real socket and a sessionTable.
type testServer struct {
	core     *gateway.Gateway
	table    *sessionTable
	upstream *gatewaytest.Origin
	ticket   string // of the channel a001, of the table's first session
	address  string
	url      string
	client   *http.Client
}

const (
	playlistType  = "application/vnd.apple.mpegurl"
	mediaPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:6,\nseg-17.ts\n#EXTINF:6,\nseg-18.ts\n"
	segment       = "the seventeenth segment"
)

// testConfig returns a config with one route, /play/{channel}/*. The test's own address is a trusted proxy, so that requests
// can come from anywhere.
func testConfig(originURL string) gateway.Config {
	c := gateway.DefaultConfig()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	c.Identity.Secret = "an identity secret"
	c.Tickets.Keys = []setting.Key{{ID: "a", Secret: "the first ticket secret"}}
	c.Origins = map[string]*gateway.OriginConfig{"o": {URL: originURL}}
	c.Routes = []gateway.RouteConfig{{Path: "/play/{channel}/*", Origin: "o", Backend: "b"}}
	c.Drain.ReadinessDelay = 0
	return c
}

// newTestServer starts a server. edit may be nil.
func newTestServer(t testing.TB, f frontKind, edit func(*gateway.Config)) *testServer {
	t.Helper()
	s := &testServer{upstream: gatewaytest.NewOrigin(t)}
	s.upstream.Files["/play/a001/first.m3u8"] = mediaPlaylist
	s.upstream.Files["/play/a001/index.m3u8"], s.upstream.Files["/play/a001/seg-17.ts"] = mediaPlaylist, segment
	c := testConfig(s.upstream.URL)
	if edit != nil {
		edit(&c)
	}
	s.core, s.table = newGateway(t, c)
	s.ticket = ticketOf(t, s.core)
	s.upstream.Reset()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address, s.url = listener.Addr().String(), "http://"+listener.Addr().String()
	s.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	run(t, f, c, s.core, listener)
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// running is a server that runs until the test ends, or until stop is called. ended is closed afterwards.
type running struct {
	stop  func()
	ended chan struct{}
}

func run(t testing.TB, f frontKind, c gateway.Config, g *gateway.Gateway, l net.Listener) running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	handlers := Handlers{HTTP: nethttp.NewHandler(g)}
	if f == plainFront {
		handlers.Plain = answerBy{g}
	}
	server, r := NewServer(c, handlers, nil, slog.New(slog.DiscardHandler)), running{stop, make(chan struct{})}
	go func() {
		defer close(r.ended)
		if err := server.Run(ctx, l); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-r.ended
	})
	<-server.Serving()
	return r
}

// newGateway makes the gateway of a valid config, with its origins and a sessionTable.
func newGateway(t testing.TB, c gateway.Config, opts ...origin.Option) (*gateway.Gateway, *sessionTable) {
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
	table := newSessionTable()
	g, err := gateway.New(gateway.Options{
		Config: c, Sessions: table, Origins: origins,
		MaxVariants: 8, IdleTimeout: time.Minute, RetryAfter: 2 * time.Second, Logger: log,
	})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(g.Close)
	return g, table
}

// ticketOf opens a session on channel a001 and returns its ticket.
func ticketOf(t testing.TB, g *gateway.Gateway) string {
	t.Helper()
	req := gateway.Request{
		Method: http.MethodGet, Scheme: "http", Host: "tv", Path: "/play/a001/first.m3u8", Query: "token=first",
		Peer: netip.MustParseAddr("127.0.0.1"), Header: http.Header{},
	}
	var resp gateway.Response
	defer resp.Reset()
	if err := g.Serve(context.Background(), &req, &resp); err != nil || resp.Status != http.StatusOK {
		t.Fatalf("got %d %q, %v", resp.Status, resp.Body, err)
	}
	_, after, _ := strings.Cut(string(resp.Body), "/~")
	ticket, _, _ := strings.Cut(after, "/")
	return ticket
}

// reply is the response that a client received.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends one request; the fields are "Name: value".
func (s *testServer) do(t testing.TB, method, path string, fields ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, nil)
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
	resp, err := s.client.Do(r)
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

func (s *testServer) get(t testing.TB, path string, fields ...string) reply {
	t.Helper()
	return s.do(t, http.MethodGet, path, fields...)
}

// want gets a path and requires that status.
func (s *testServer) want(t testing.TB, status int, path string, fields ...string) reply {
	t.Helper()
	got := s.get(t, path, fields...)
	if got.status != status {
		t.Fatalf("GET %s %q: got %d %q, want %d", path, fields, got.status, got.body, status)
	}
	return got
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

// memoryServer is a Server behind a listener in memory, with an origin without a network, for use within synctest.Test.
type memoryServer struct {
	*gatewaytest.Listener
	core   *gateway.Gateway
	config gateway.Config
	table  *sessionTable
	ticket string
	running
}

func newMemoryServer(t *testing.T, f frontKind, edit func(*gateway.Config), o gatewaytest.OriginFunc) *memoryServer {
	t.Helper()
	c := testConfig("http://origin.example.com")
	if edit != nil {
		edit(&c)
	}
	b := &memoryServer{Listener: gatewaytest.NewListener(), config: c}
	b.core, b.table = newGateway(t, c, origin.WithTransport(playlistBeside(o)))
	b.ticket = ticketOf(t, b.core)
	b.running = run(t, f, c, b.core, b.Listener)
	return b
}

// playlistBeside returns an origin that has the playlist of ticketOf too.
func playlistBeside(o gatewaytest.OriginFunc) gatewaytest.OriginFunc {
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/play/a001/first.m3u8" {
			return gatewaytest.OriginResponse(r, int64(len(mediaPlaylist)), strings.NewReader(mediaPlaylist)), nil
		}
		return o(r)
	}
}
