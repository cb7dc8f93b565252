package limits

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"usher/actors/session"
)

// concurrentRestores is how many sets are restored at once: a pipeline, so that the calls of viewers find room in the queue.
const concurrentRestores = 128

// restoreDenied stores the sets again in which a stream is denied, because the store has lost its data: another node must not take the
// stream for a new one. It tries again what fails, until all are stored or ctx ends.
func (h *shared) restoreDenied(ctx context.Context) {
	for left := h.denied(); len(left) > 0; {
		if left = h.restore(ctx, left); len(left) == 0 {
			return
		}
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
			return
		}
	}
}

// denied returns the users of whom this node knows a denied stream.
func (h *shared) denied() (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, e := range h.users.entries {
		if slices.ContainsFunc(e.value.known.streams, func(s stream) bool { return s.State != session.StreamActive }) {
			names = append(names, name)
		}
	}
	return names
}

// restore stores the sets of these users, a few at once, and returns the users for whom to try again.
func (h *shared) restore(ctx context.Context, names []string) (failed []string) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := make(chan string)
	for range min(concurrentRestores, len(names)) {
		workers.Go(func() {
			for name := range next {
				if !h.restoreOne(ctx, name) {
					mu.Lock()
					failed = append(failed, name)
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range names {
		next <- name
	}
	close(next)
	workers.Wait()
	return failed
}

// restoreOne stores a user's set. It returns false if that is to be tried again.
func (h *shared) restoreOne(ctx context.Context, name string) bool {
	h.mu.Lock()
	u := h.users.get(name)
	if u == nil { // the node has forgotten the user
		h.mu.Unlock()
		return true
	}
	c := h.enqueue(ctx, name, u, nil)
	h.mu.Unlock()
	select {
	case <-c.done:
		return c.err == nil || errors.Is(c.err, errFull) || errors.Is(c.err, errLayout)
	case <-ctx.Done():
		return false
	}
}
