package origin

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// flight is one fetch and all who wait for it. One goroutine fetches (see fetch.go); viewers come by enter and go by
// leave, and read the same memory through a [follower] (see stream.go).
type flight struct {
	cache     *Cache
	key       key
	want      byteRange
	freshness func([]byte) (fresh, stale time.Duration)
	old       *entry // what the cache held when the fetch began
	started   int64  // in the cache's time

	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed by finish

	mu        sync.Mutex
	wake      chan struct{} // closed at the next change; nil while nobody waits
	viewers   int
	followers map[*follower]struct{}
	head      *head // nil until the origin answered
	body      buffer
	ended     bool
	abandoned bool
	entry     *entry // what the flight came to, nil if that is not kept
	err       error
}

// head is what a viewer can be told before the body is there.
type head struct {
	Header
	status int
	// part is the Content-Range of a 206.
	part contentRange
	// unsatisfied is the Content-Range of a 416, as the origin sent it.
	unsatisfied string
	// length is the body's length, or -1.
	length int64
	// fetched is the Object's; received is the same moment in the cache's time.
	fetched  time.Time
	received int64
	life     lifetime
	// etag is the origin's own, where the viewer's differs.
	etag string
}

func (h *head) contentRange() string {
	if h.status != http.StatusPartialContent {
		return ""
	}
	return h.part.String()
}

// enter counts one more viewer; false if the flight can no longer give him everything from the start.
func (f *flight) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.abandoned || f.body.base > 0 {
		return false
	}
	f.viewers++
	return true
}

// leave is the end of one viewer's interest; fo is his follower, if he had one.
func (f *flight) leave(fo *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, fo)
	f.viewers--
	f.body.moved()
	if f.viewers > 0 {
		return
	}
	if f.ended {
		f.body.free(f.cache)
		return
	}
	if !f.worthFinishing() {
		f.abandoned = true
		f.cancel(errAbandoned)
	}
}

// worthFinishing reports whether a fetch that nobody waits for should go on: an ordinary playlist, because the next
// reload is sure to come, and a body to be stored of which at least half is there.
func (f *flight) worthFinishing() bool {
	switch f.key.class() {
	case classPlaylist:
		return true
	case classBlocking:
		return false
	default:
		return f.head != nil && f.head.life.store && !f.body.passing && f.head.length >= 0 &&
			2*f.body.size >= f.head.length
	}
}

// begin publishes what the origin answered; the body follows.
func (f *flight) begin(h *head, decoded bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = h
	f.body.prepare(f.cache, h.length, decoded)
	f.broadcast()
}

// finish publishes how it ended.
func (f *flight) finish(e *entry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entry, f.err, f.ended = e, err, true
	if e != nil && e.object != nil {
		f.body.settle(f.cache, e.object.Body)
	}
	if f.viewers == 0 || err != nil {
		f.body.free(f.cache)
	}
	f.broadcast()
	close(f.done)
}

// broadcast wakes all who wait; f.mu is held.
func (f *flight) broadcast() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// await releases f.mu until something changed or ctx ended, and takes it again.
func (f *flight) await(ctx context.Context) error {
	if f.wake == nil {
		f.wake = make(chan struct{})
	}
	wake := f.wake
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answered waits for the head, or for an end without one.
func (f *flight) answered(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.head == nil && !f.ended {
		if err := f.await(ctx); err != nil {
			return err
		}
	}
	return f.err
}
