package origin

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"
	"unique"

	"usher/backends"
)

// fetch is one request to the origin and all viewers who wait for it. One goroutine runs it (see fetch_run.go). Viewers
// join and leave, and read the same memory through a [reader] (see stream.go).
type fetch struct {
	cache       *Cache
	key         cacheKey
	channel     string
	viewer      backends.SessionID          // who began it, if the origin may hold it
	address     unique.Handle[netip.Prefix] // where from
	wantedRange byteRange
	inspect     func([]byte) (Inspection, error)
	freshFor    time.Duration
	isLate      bool // as in Request
	mayBeMedia  bool
	stored      *entry // what the cache held when the fetch began
	started     int64  // in the cache's time
	// conn is what the response that is read holds of its address. The fetch's goroutine alone uses it.
	conn *connSlot

	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed by finish

	mu          sync.Mutex
	changed     chan struct{} // closed at the next change; nil without a waiter
	joined      int
	readers     map[*reader]struct{}
	head        *responseHead // nil until the origin responded
	body        buffer
	isDone      bool
	isAbandoned bool
	entry       *entry // the result, nil if it is not cached
	err         error
}

// responseHead is the part of a response that viewers receive before the body.
type responseHead struct {
	Header
	status int
	// partRange is the Content-Range of a 206.
	partRange contentRange
	// unsatisfiedRange is the Content-Range of a 416, as the origin sent it.
	unsatisfiedRange string
	// length is the body's length in bytes, or -1 if unknown.
	length int64
	// isStreamed reports that the origin did not state the length, and thus sends what it has until there is no more.
	isStreamed bool
	// fetched becomes Object.Fetched.
	fetched time.Time
	// received is when the headers arrived, in the cache's time.
	received int64
	caching  lifetime
	// etag is the origin's ETag; Header has the viewer's.
	etag string
	// expires is the origin's Expires.
	expires string
}

func (h *responseHead) contentRange() string {
	if h.status != http.StatusPartialContent {
		return ""
	}
	return h.partRange.String()
}

// join counts one more viewer. It is false if the fetch can no longer provide the body from its start.
func (f *fetch) join() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isAbandoned || f.body.base > 0 {
		return false
	}
	f.joined++
	return true
}

// canBe reports whether the response can be what a playlist lists; s may be nil. One that the origin holds comes when there is all of it.
func (f *fetch) canBe(s *listedState) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.mayBe(f.started, f.head == nil || f.head.isStreamed)
}

// leave removes one viewer and their reader; r may be nil. Without viewers the fetch is cancelled unless it should
// finish.
func (f *fetch) leave(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.readers, r)
	f.joined--
	f.body.notifyRoom()
	if f.joined > 0 {
		return
	}
	if f.isDone {
		f.body.discard(f.cache)
		return
	}
	if !f.shouldFinish() {
		f.isAbandoned = true
		f.cancel(errAbandoned)
	}
}

// mayBeHeld reports whether the origin may hold the response on purpose.
func (f *fetch) mayBeHeld() bool { return f.key.class() == classBlocking && !f.isLate }

// shouldFinish reports whether a fetch without viewers continues: a playlist that the origin need not hold, because the next reload
// needs it, and a storable body of which at least half has arrived.
func (f *fetch) shouldFinish() bool {
	if !f.key.media {
		return !f.mayBeHeld()
	}
	return f.head != nil && f.head.caching.isStorable && !f.body.isPassThrough && f.head.length >= 0 &&
		2*f.body.size >= f.head.length
}

// publishHead publishes the head of the response; the body follows.
func (f *fetch) publishHead(h *responseHead) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = h
	f.notifyAll()
}

// finish publishes the result.
func (f *fetch) finish(e *entry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entry, f.err, f.isDone = e, err, true
	if e != nil && e.object != nil {
		f.body.replaceBody(f.cache, e.object.Body)
	}
	if f.joined == 0 || err != nil {
		f.body.discard(f.cache)
	}
	f.notifyAll()
	close(f.done)
}

// notifyAll wakes all waiting viewers. f.mu is held.
func (f *fetch) notifyAll() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// waitForChange unlocks f.mu until the fetch changes or ctx ends, and locks it again.
func (f *fetch) waitForChange(ctx context.Context) error {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	wake := f.changed
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitForHead waits until the head is published or the fetch ends without one.
func (f *fetch) waitForHead(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.head == nil && !f.isDone {
		if err := f.waitForChange(ctx); err != nil {
			return err
		}
	}
	return f.err
}
