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
	"strings"
	"sync"
	"time"
)

// Config holds the settings of a Server.
type Config struct {
	// Address is where it listens. Port 0 takes a free port, once.
	Address string
	// Users are the viewers who may watch, by token.
	Users map[string]User
	// Lookup, if not nil, finds users who are not in Users.
	Lookup func(token string) (User, bool)
	// Record is how many of the last requests are kept for Requests. Zero keeps none.
	Record int
}

// DefaultConfig listens on a free port of 127.0.0.1, has no users, and keeps a thousand requests.
func DefaultConfig() Config { return Config{Address: "127.0.0.1:0", Record: 1000} }

// User is a user of the middleware. Empty fields are left out of its answers.
type User struct {
	ID, Name    string
	ValidFor    time.Duration
	MaxSessions int
	Unique      bool
}

// Dialect writes a healthy server's answer as its product does. isKnown reports whether the token is good.
type Dialect func(w http.ResponseWriter, r *http.Request, u User, isKnown bool)

// Server is a middleware that behaves as set. Safe for concurrent use.
type Server struct {
	cfg     Config
	handler http.Handler

	life    context.Context // ends with Close
	end     context.CancelFunc
	running sync.WaitGroup // accept loops, connections, handlers

	mu      sync.Mutex
	address string
	active  *activeListener // nil while the port is closed
	mode    Mode
	since   time.Time
	bad     badRequests
	users   map[string]User
	headers http.Header
	dialect Dialect
	// isDialectSet is false while the server answers as Astra's middlewares do, with all facts of the user.
	isDialectSet bool
	// certificate is nil for a server without TLS.
	certificate *tls.Certificate

	record recorder
}

// New returns a server that does not listen yet.
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

// URL returns the server's address, without a slash at the end. It never changes.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certificate != nil {
		return "https://" + s.address
	}
	return "http://" + s.address
}

// SetMode changes how the next requests are answered. It fails only if the port cannot be opened again after Refuse.
func (s *Server) SetMode(m Mode) error {
	s.mu.Lock()
	s.mode, s.since = m, time.Now()
	if m.Kind == KindRefuse {
		refused := s.active
		s.active = nil
		s.mu.Unlock()
		refused.close()
		return nil
	}
	defer s.mu.Unlock()
	if s.active != nil || s.life.Err() != nil {
		return nil
	}
	return s.listenLocked()
}

// badRequests are the requests that one mode answers, whatever the mode of the others.
type badRequests struct {
	marker string // in the raw query; empty: there are none
	mode   Mode
}

// SetModeFor changes how requests are answered whose raw query holds marker, as a viewer may have a middleware fail for
// their token alone. The mode cannot be Refuse. An empty marker ends it.
func (s *Server) SetModeFor(marker string, m Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = badRequests{marker, m}
}

// Mode returns the present mode.
func (s *Server) Mode() Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode
}

// SetUser adds or replaces the user of a token.
func (s *Server) SetUser(token string, u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[token] = u
}

// RemoveUser removes the user of a token.
func (s *Server) RemoveUser(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, token)
}

// SetHeader sets a header of every answer, in place of the dialect's. An empty value removes it.
func (s *Server) SetHeader(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headers = s.headers.Clone() // answers in flight read the old one
	if value == "" {
		s.headers.Del(name)
		return
	}
	s.headers.Set(name, value)
}

// SetDialect changes how a healthy server answers.
func (s *Server) SetDialect(d Dialect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialect, s.isDialectSet = d, true
}

// Close stops listening, ends every call, and waits for them.
func (s *Server) Close() {
	s.end()
	s.mu.Lock()
	current := s.active
	s.active = nil
	s.mu.Unlock()
	current.close()
	s.running.Wait()
}

// activeListener is the open port and its HTTP server.
type activeListener struct {
	listener net.Listener
	server   *http.Server
}

// close closes the port and every connection. The listener is closed too, since Serve may not have begun yet.
func (c *activeListener) close() {
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
	listener = s.withTLSLocked(listener)
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // it fails on purpose
		ConnState:         s.trackConn,
	}
	s.active = &activeListener{listener: listener, server: server}
	s.running.Go(func() { _ = server.Serve(listener) })
	return nil
}

// openPort retries for a port that it had before: the system may have lent it to a connection in between.
func (s *Server) openPort() (net.Listener, error) {
	const timeout, pause = 2 * time.Second, 20 * time.Millisecond
	var lc net.ListenConfig
	for deadline := time.Now().Add(timeout); ; {
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

// trackConn makes Close wait for connections. The accept loop, which is waited for too, reports a new one, so the count
// never rises from zero during a wait.
func (s *Server) trackConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.running.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.running.Done()
	}
}

// serve counts and records a request, then does what the mode says.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.running.Add(1)
	defer s.running.Done()
	s.record.begin(r)
	defer s.record.end()

	s.mu.Lock()
	a := responder{server: s, mode: s.mode, since: s.since, headers: s.headers, dialect: s.dialect}
	if s.bad.marker != "" && strings.Contains(r.URL.RawQuery, s.bad.marker) {
		a.mode = s.bad.mode
	}
	s.mu.Unlock()
	a.serve(w, r)
}

// lookup returns the user of a token.
func (s *Server) lookup(token string) (User, bool) {
	s.mu.Lock()
	u, ok := s.users[token]
	s.mu.Unlock()
	if !ok && s.cfg.Lookup != nil {
		return s.cfg.Lookup(token)
	}
	return u, ok
}
