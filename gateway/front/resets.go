package front

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"usher/gateway"
)

const (
	// maxResets is how many streams of HTTP/2 a client may reset on one connection within resetWindow, if those are more than half
	// of its requests. A player resets a few when its viewer seeks, and a proxy as many as its viewers' players do.
	maxResets   = 200
	resetWindow = 10 * time.Second
)

// resetCounter counts the requests of one connection of HTTP/2. It is safe for concurrent use.
type resetCounter struct {
	conn net.Conn

	mu               sync.Mutex
	since            time.Time
	requests, resets int
	isOver           bool
}

type resetCounterKey struct{}

func withResetCounter(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, resetCounterKey{}, &resetCounter{conn: c})
}

// count counts a request at now. It reports, once, that the client resets too many.
func (c *resetCounter) count(now time.Time, isReset bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= resetWindow {
		c.since, c.requests, c.resets = now, 0, 0
	}
	c.requests++
	if isReset {
		c.resets++
	}
	wasOver := c.isOver
	c.isOver = wasOver || c.resets > maxResets && 2*c.resets > c.requests
	return c.isOver && !wasOver
}

// serveHTTP2 answers a request whose stream the client has not reset by now, and ends the connection of a client that does little
// else.
func (s *Server) serveHTTP2(w http.ResponseWriter, r *http.Request) {
	if !isReset(r) {
		s.handlers.HTTP.ServeHTTP(w, r)
	}
	c, isCounted := r.Context().Value(resetCounterKey{}).(*resetCounter)
	if !isCounted || !c.count(time.Now(), isReset(r)) {
		return
	}
	if closeNow(c.conn); s.onOverload != nil {
		s.onOverload("HTTP/2 stream resets of a connection")
	}
}

// isReset reports whether a request has ended, other than by the end of the drain: that is answered, so that its viewer comes back.
func isReset(r *http.Request) bool {
	return r.Context().Err() != nil && !errors.Is(context.Cause(r.Context()), gateway.ErrDraining)
}
