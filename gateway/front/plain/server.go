package plain

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Handler answers requests. It is called for one request of a connection at a time.
type Handler interface {
	// Serve answers by calling x.Answer, once.
	Serve(x *Exchange)
}

// Options are what a Server needs. All are required unless they say otherwise.
type Options struct {
	Handler Handler
	// MaxHeadSize bounds a request's line and header, in bytes.
	MaxHeadSize int
	// ReadTimeout bounds the arrival of a head and of a body, and that of a refusal at the viewer. IdleTimeout bounds the silence
	// between two requests.
	ReadTimeout, IdleTimeout time.Duration
	// IsDraining reports whether a connection ends with the request that it begins to serve; nil: not before Shutdown.
	IsDraining func() bool
	Logger     *slog.Logger
}

// Server serves HTTP/1.1 and HTTP/1.0 without TLS. It is safe for concurrent use.
type Server struct {
	options   Options
	requests  context.Context //nolint:containedctx // the parent of each request's
	exchanges sync.Pool
	// numExchanges is how many were made.
	numExchanges atomic.Uint32
	newline      []byte
	isDraining   atomic.Bool
	date         atomic.Pointer[date]

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners []net.Listener
}

// New makes a server. The contexts of requests end with the given one at the latest, and with its cause.
func New(requests context.Context, o Options) *Server {
	s := &Server{options: o, requests: requests, conns: map[*conn]struct{}{}, newline: []byte("\r\n")}
	s.exchanges.New = s.newExchange
	return s
}

// Serve serves the connections of a listener until Shutdown or Close, after which it returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	if s.isDraining.Load() {
		_ = l.Close()
	}
	for pause := time.Duration(0); ; {
		inner, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			c := newConn(s, inner)
			s.mu.Lock()
			s.conns[c] = struct{}{}
			s.mu.Unlock()
			go c.serve()
		case s.isDraining.Load():
			return http.ErrServerClosed
		case isTemporary(err):
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.options.Logger.Warn("connections not accepted, trying again", slog.Any("error", err))
			time.Sleep(pause)
		default:
			_ = l.Close()
			return err
		}
	}
}

// isTemporary reports whether a listener may accept again after an error, as when the process has too many files open.
func isTemporary(err error) bool {
	temporary, canTell := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return canTell && temporary.Temporary()
}

func (s *Server) remove(c *conn) {
	if c.exchange != nil {
		c.release()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// maxPoll is the longest interval in which Shutdown looks for connections that have become idle.
const maxPoll = 100 * time.Millisecond

// Shutdown closes the listeners and idle connections, and waits for the requests in flight, whose connections end with them. It
// returns ctx's error if that ends first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopListening()
	for pause := time.Millisecond; ; pause = min(2*pause, maxPoll) {
		if s.closeConns(isIdle) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Close closes everything at once.
func (s *Server) Close() error {
	s.stopListening()
	s.closeConns(isIdle, isActive)
	return nil
}

func (s *Server) stopListening() {
	s.isDraining.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// closeConns closes the connections in those states. It returns how many there are, closed ones included that have not ended.
func (s *Server) closeConns(states ...int32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		for _, state := range states {
			if c.state.CompareAndSwap(state, isClosed) {
				_ = c.Close()
			}
		}
	}
	return len(s.conns)
}

// date is a second and its text.
type date struct {
	second int64
	text   string
}

// appendDate appends the time as HTTP has it. It is written once a second.
func (s *Server) appendDate(out []byte, now time.Time) []byte {
	d := s.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &date{now.Unix(), now.UTC().Format(http.TimeFormat)}
		s.date.Store(d)
	}
	return append(out, d.text...)
}
