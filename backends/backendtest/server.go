package backendtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a server begins with.
type Config struct {
	// Address is where it listens; port 0 takes a free one, once.
	Address string
	// Users is who may watch, by token. Lookup, if set, is asked instead: for more users than fit a table.
	Users  map[string]User
	Lookup func(token string) (User, bool)
	// Record is how many of the last requests are kept to be looked at; zero keeps none.
	Record int
}

// DefaultConfig listens on a free port of 127.0.0.1, knows nobody, and keeps a thousand requests.
func DefaultConfig() Config { return Config{Address: "127.0.0.1:0", Record: 1000} }

// User is what the middleware knows of one. Empty fields are left out of its answers.
type User struct {
	ID, Name    string
	ValidFor    time.Duration
	MaxSessions int
	Unique      bool
}

// Dialect answers a healthy server's question in its product's words. known says whether the token is good.
type Dialect func(w http.ResponseWriter, r *http.Request, u User, known bool)

// Server is a middleware that does what it is told. Its methods may be called at any time, by anybody.
type Server struct {
	cfg     Config
	handler http.Handler

	life   context.Context // ends with Close
	end    context.CancelFunc
	serves sync.WaitGroup // accept loops, connections, handlers

	mu      sync.Mutex
	address string
	current *serving // nil while nobody listens
	mode    Mode
	since   time.Time
	users   map[string]User
	headers http.Header
	dialect Dialect
	// certificate is nil for a server without TLS.
	certificate *tls.Certificate

	record record
}

// New makes a server that does not listen yet.
func New(cfg Config) *Server {
	s := &Server{
		cfg:     cfg,
		address: cfg.Address,
		mode:    Healthy(),
		users:   maps.Clone(cfg.Users),
		headers: make(http.Header),
		dialect: Astra,
	}
	if s.users == nil {
		s.users = make(map[string]User)
	}
	s.record.init(cfg.Record)
	s.life, s.end = context.WithCancel(context.Background())
	s.handler = http.HandlerFunc(s.serve)
	return s
}

// Start listens and answers until Close.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listenLocked()
}

// URL is the server's address, without a slash at the end. It stays the same while the server lives.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certificate != nil {
		return "https://" + s.address
	}
	return "http://" + s.address
}

// Set changes how the next requests fare. It fails only if the port cannot be had again after Refuse.
func (s *Server) Set(m Mode) error {
	s.mu.Lock()
	s.mode, s.since = m, time.Now()
	if m.Kind == KindRefuse {
		refused := s.current
		s.current = nil
		s.mu.Unlock()
		refused.close()
		return nil
	}
	defer s.mu.Unlock()
	if s.current != nil || s.life.Err() != nil {
		return nil
	}
	return s.listenLocked()
}

// Mode is how requests fare at present.
func (s *Server) Mode() Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode
}

// SetUser lets a token in, over what Config says; RemoveUser refuses it again.
func (s *Server) SetUser(token string, u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[token] = u
}

// RemoveUser refuses a token.
func (s *Server) RemoveUser(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, token)
}

// SetHeader adds a header to every answer, over the dialect's; an empty value removes it.
func (s *Server) SetHeader(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headers = s.headers.Clone() // answers under way read the old one
	if value == "" {
		s.headers.Del(name)
		return
	}
	s.headers.Set(name, value)
}

// Speak changes the dialect.
func (s *Server) Speak(d Dialect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialect = d
}

// Close stops listening, ends every call, and waits for them.
func (s *Server) Close() {
	s.end()
	s.mu.Lock()
	current := s.current
	s.current = nil
	s.mu.Unlock()
	current.close()
	s.serves.Wait()
}

// serving is the server while it listens.
type serving struct {
	listener net.Listener
	server   *http.Server
}

// close ends the listening and every connection. The listener is closed by itself as well, since the server may not
// have come to know of it yet.
func (c *serving) close() {
	if c == nil {
		return
	}
	_ = c.listener.Close()
	_ = c.server.Close()
}

// listenLocked opens the port, the same one every time.
func (s *Server) listenLocked() error {
	listener, err := s.openPort()
	if err != nil {
		return fmt.Errorf("start middleware: %w", err)
	}
	s.address = listener.Addr().String()
	listener = s.securedLocked(listener)
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // it misbehaves on purpose
		ConnState:         s.count,
	}
	s.current = &serving{listener: listener, server: server}
	s.serves.Go(func() { _ = server.Serve(listener) })
	return nil
}

// openPort waits a little for a port that it had before: while nobody listens there, the system may lend it to a
// connection.
func (s *Server) openPort() (net.Listener, error) {
	const patience, pause = 2 * time.Second, 20 * time.Millisecond
	var lc net.ListenConfig
	for deadline := time.Now().Add(patience); ; {
		listener, err := lc.Listen(s.life, "tcp", s.address)
		if err == nil || s.address == s.cfg.Address || time.Now().After(deadline) {
			return listener, err
		}
		select {
		case <-s.life.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// count keeps Close waiting for connections. A new one is reported by the accept loop, which is counted itself, so the
// count never rises from nothing while somebody waits.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.serves.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.serves.Done()
	}
}

// serve counts and records a request, then does what the mode says.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.serves.Add(1)
	defer s.serves.Done()
	s.record.enter(r)
	defer s.record.leave()

	s.mu.Lock()
	a := answer{server: s, mode: s.mode, since: s.since, headers: s.headers, dialect: s.dialect}
	s.mu.Unlock()
	a.give(w, r)
}

// lookup finds the user of a token.
func (s *Server) lookup(token string) (User, bool) {
	s.mu.Lock()
	u, ok := s.users[token]
	s.mu.Unlock()
	if !ok && s.cfg.Lookup != nil {
		return s.cfg.Lookup(token)
	}
	return u, ok
}

// Request is one that the server got.
type Request struct {
	At       time.Time
	Method   string
	Path     string
	RawQuery string
	Host     string
	Remote   string
	Header   http.Header
}

// record is what the server has seen.
type record struct {
	calls    atomic.Uint64
	inFlight atomic.Int64
	most     atomic.Int64

	mu      sync.Mutex
	arrived *sync.Cond
	last    []Request // a ring once it is full
	next    int
	size    int
}

func (c *record) init(size int) {
	c.size = size
	c.arrived = sync.NewCond(&c.mu)
}

func (c *record) enter(r *http.Request) {
	now := c.inFlight.Add(1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls.Add(1)
	c.arrived.Broadcast()
	if c.size == 0 {
		return
	}
	seen := Request{
		At: time.Now(), Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery,
		Host: r.Host, Remote: r.RemoteAddr, Header: r.Header.Clone(),
	}
	if len(c.last) < c.size {
		c.last = append(c.last, seen)
		return
	}
	c.last[c.next] = seen
	c.next = (c.next + 1) % c.size
}

func (c *record) leave() { c.inFlight.Add(-1) }

// Calls is how many requests came since the start.
func (s *Server) Calls() uint64 { return s.record.calls.Load() }

// InFlight is how many requests are being answered.
func (s *Server) InFlight() int { return int(s.record.inFlight.Load()) }

// MaxInFlight is the most that were answered at once.
func (s *Server) MaxInFlight() int { return int(s.record.most.Load()) }

// Requests is the last requests, oldest first.
func (s *Server) Requests() []Request {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	last := s.record.last
	return append(append(make([]Request, 0, len(last)), last[s.record.next:]...), last[:s.record.next]...)
}

// Wait returns when calls requests have come since the start, or with ctx's error.
func (s *Server) Wait(ctx context.Context, calls uint64) error {
	c := &s.record
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.arrived.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.calls.Load() < calls {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for request %d, have %d: %w", calls, c.calls.Load(), err)
		}
		c.arrived.Wait()
	}
	return nil
}
