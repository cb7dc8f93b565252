package simulate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// errRefused is what a middleware that refuses connections gives.
var errRefused = errors.New("connection refused")

// middleware answers checks in fake time. It is safe for concurrent use.
type middleware struct {
	config *Config
	// outage is what it does now.
	outage atomic.Pointer[Outage]
	// openings and rechecks are the calls of the sample so far. inOutage are those that found an outage, probes among them: so
	// many come from a node, whatever viewers it has, so they do not stand for others.
	openings, rechecks, inOutage atomic.Int64

	mu   sync.Mutex
	free time.Time // when it can begin the next call
}

// calls returns how many calls all viewers have caused so far.
func (m *middleware) calls() float64 {
	return float64(m.openings.Load()+m.rechecks.Load())*m.config.factor() + float64(m.inOutage.Load())
}

// client is the way of one node to the middleware.
type client struct {
	*middleware
	isDown func() bool // the node's breaker is not closed
}

// Check counts a call and has it answered.
func (c *client) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	switch {
	case c.isDown(), *c.outage.Load() != OutageNone:
		c.inOutage.Add(1)
	case r.IsUnknown():
		c.openings.Add(1)
	default:
		c.rechecks.Add(1)
	}
	return c.middleware.Check(ctx, r)
}

// Check answers a call when its turn has come. What it has begun it finishes, also if nobody waits any more.
func (m *middleware) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	if r.OnSent != nil {
		r.OnSent()
	}
	switch *m.outage.Load() {
	case OutageRefuse:
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureTransport, Backend: backendName, Err: errRefused}
	case OutageError:
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: backendName, Status: 500}
	case OutageHang:
		<-ctx.Done()
	}
	if err := wait(ctx, m.turn(time.Now())); err != nil {
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureTimeout, Backend: backendName, WasSent: true, Err: err}
	}
	viewer := viewerOf(r)
	if viewer.isBad(m.config) {
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "no such subscriber"}, nil
	}
	return backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, UserID: viewer.user(m.config), MaxSessions: int32(m.config.Streams),
	}, nil
}

// turn returns how long a call takes that comes now.
func (m *middleware) turn(now time.Time) time.Duration {
	if m.config.Capacity == 0 {
		return m.config.Latency
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.free.Before(now) {
		m.free = now
	}
	m.free = m.free.Add(time.Duration(float64(time.Second) * m.config.factor() / float64(m.config.Capacity)))
	return m.free.Sub(now) + m.config.Latency
}

// wait waits so long, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// viewerOf returns the viewer that a check is about.
func viewerOf(r *backends.Request) (n viewerNumber) {
	if _, err := fmt.Sscanf(r.Query, tokenPrefix+"%d.%d", &n.slot, &n.turn); err != nil {
		panic(fmt.Sprintf("query %q: %v", r.Query, err)) // request wrote it
	}
	return n
}
