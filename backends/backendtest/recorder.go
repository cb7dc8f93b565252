package backendtest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Request is a request that the server got.
type Request struct {
	At       time.Time
	Method   string
	Path     string
	RawQuery string
	Host     string
	Remote   string
	Header   http.Header
}

// recorder counts requests and keeps the last ones.
type recorder struct {
	calls       atomic.Uint64
	inFlight    atomic.Int64
	maxInFlight atomic.Int64

	mu         sync.Mutex
	hasArrived *sync.Cond
	requests   []Request // a ring once it is full
	next       int
	size       int
}

func (c *recorder) init(size int) {
	c.size = size
	c.hasArrived = sync.NewCond(&c.mu)
}

func (c *recorder) begin(r *http.Request) {
	now := c.inFlight.Add(1)
	for most := c.maxInFlight.Load(); now > most && !c.maxInFlight.CompareAndSwap(most, now); most = c.maxInFlight.Load() {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls.Add(1)
	c.hasArrived.Broadcast()
	if c.size == 0 {
		return
	}
	seen := Request{
		At: time.Now(), Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery,
		Host: r.Host, Remote: r.RemoteAddr, Header: r.Header.Clone(),
	}
	if len(c.requests) < c.size {
		c.requests = append(c.requests, seen)
		return
	}
	c.requests[c.next] = seen
	c.next = (c.next + 1) % c.size
}

func (c *recorder) end() { c.inFlight.Add(-1) }

// Calls returns how many requests came since the start.
func (s *Server) Calls() uint64 { return s.record.calls.Load() }

// InFlight returns how many requests are being answered.
func (s *Server) InFlight() int { return int(s.record.inFlight.Load()) }

// MaxInFlight returns the highest InFlight so far.
func (s *Server) MaxInFlight() int { return int(s.record.maxInFlight.Load()) }

// Requests returns the last requests, oldest first.
func (s *Server) Requests() []Request {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	last := s.record.requests
	return append(append(make([]Request, 0, len(last)), last[s.record.next:]...), last[:s.record.next]...)
}

// Wait blocks until calls requests have come since the start, or returns ctx's error.
func (s *Server) Wait(ctx context.Context, calls uint64) error {
	c := &s.record
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hasArrived.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.calls.Load() < calls {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for request %d, have %d: %w", calls, c.calls.Load(), err)
		}
		c.hasArrived.Wait()
	}
	return nil
}
