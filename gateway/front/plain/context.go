package plain

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// requestContext is the context of a request. Nobody looks whether the viewer is still there until somebody waits: the first call of
// Done starts to watch the connection. One that nobody has asked anything serves the next request too.
type requestContext struct {
	conn *conn

	mu     sync.Mutex
	isUsed bool
	isOver bool
	inner  context.Context //nolint:containedctx // what this one becomes once somebody waits
	cancel context.CancelFunc
}

// begin returns the context that ends with the viewer.
func (r *requestContext) begin() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isUsed = true
	if r.inner == nil {
		r.inner, r.cancel = context.WithCancel(r.conn.server.requests)
		if r.isOver {
			r.cancel()
		} else {
			r.conn.startWatch(r.cancel)
		}
	}
	return r.inner
}

// end ends the context. It reports whether it may serve another request.
func (r *requestContext) end() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isUsed {
		r.isOver = true
	}
	if r.cancel != nil {
		r.cancel()
	}
	return !r.isUsed
}

// Deadline returns that there is none.
func (r *requestContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns a channel that is closed when the viewer has disconnected, the node drains, or the request is over.
func (r *requestContext) Done() <-chan struct{} { return r.begin().Done() }

// Err returns why the context ended, or nil.
func (r *requestContext) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inner != nil {
		return r.inner.Err()
	}
	return r.conn.server.requests.Err()
}

// Value returns the value of the context that ends with the server.
func (r *requestContext) Value(key any) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isUsed = true
	if r.inner != nil {
		return r.inner.Value(key)
	}
	return r.conn.server.requests.Value(key)
}

// watchDelay is how long a request waits before its connection is watched, once it asks for that: what it waits for mostly comes sooner,
// and to start and stop a goroutine costs a tenth of an opening. The wait for a session begins with a delay of its own.
const watchDelay = 100 * time.Millisecond

// watch looks whether the viewer disconnects while a request waits. It reads one byte, which is of the next request if it comes.
type watch struct {
	timer *time.Timer
	ended chan struct{}
	byte  [1]byte
	n     int

	mu     sync.Mutex
	isOver bool // guarded by mu
}

// startWatch calls gone once the viewer has disconnected. A request whose body may not have been read is not watched.
func (c *conn) startWatch(gone func()) {
	if c.head.framing.contentLength != 0 {
		return
	}
	w := &watch{ended: make(chan struct{})}
	c.watch = w
	w.timer = time.AfterFunc(watchDelay, func() {
		defer close(w.ended)
		if !w.begin(c) {
			return
		}
		n, err := c.Conn.Read(w.byte[:])
		if w.n = n; n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
			gone()
		}
	})
}

// begin lets the watch read for as long as it takes, and reports false if it is over already.
func (w *watch) begin(c *conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.isOver {
		c.setReadDeadline(time.Time{})
	}
	return !w.isOver
}

// end lets the watch read no more.
func (w *watch) end(c *conn) {
	w.mu.Lock()
	w.isOver = true
	c.setReadDeadline(time.Unix(1, 0))
	w.mu.Unlock()
	<-w.ended
	c.setReadDeadline(time.Time{})
}

// stopWatch ends the watch, and puts the byte that it has read to those that have arrived.
func (c *conn) stopWatch() {
	w := c.watch
	if w == nil {
		return
	}
	c.watch = nil
	if w.timer.Stop() {
		return
	}
	if w.end(c); w.n > 0 {
		x := c.exchange
		x.makeRoom()
		x.end += copy(x.in[x.end:], w.byte[:w.n])
	}
}
