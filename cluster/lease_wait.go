package cluster

import (
	"context"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// firstPoll and lastPoll are how often a waiting call looks for the decision of another node: a stored decision is
// published, but a message may be lost.
const firstPoll, lastPoll = 25 * time.Millisecond, 100 * time.Millisecond

// leaseWaiters are the calls that wait for the decision of another node. Its zero value is empty.
type leaseWaiters struct {
	mu      sync.Mutex
	waiting map[backends.SessionID][]chan struct{}
}

// add returns a channel that receives when a decision on the session was stored, and what must be called afterwards.
func (w *leaseWaiters) add(id backends.SessionID) (stored chan struct{}, remove func()) {
	stored = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = make(map[backends.SessionID][]chan struct{})
	}
	w.waiting[id] = append(w.waiting[id], stored)
	return stored, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		left := w.waiting[id][:0]
		for _, other := range w.waiting[id] {
			if other != stored {
				left = append(left, other)
			}
		}
		if w.waiting[id] = left; len(left) == 0 {
			delete(w.waiting, id)
		}
	}
}

// notify wakes the calls that wait for a session. It does not block.
func (w *leaseWaiters) notify(id backends.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, stored := range w.waiting[id] {
		select {
		case stored <- struct{}{}:
		default:
		}
	}
}

// waitForLease tries again when a decision was stored, and from time to time. At the end of the caller's wait it takes the
// lease over.
func (r *Redis) waitForLease(ctx context.Context, q session.LeaseRequest) (session.LeaseResult, error) {
	stored, remove := r.waiters.add(q.ID)
	defer remove()
	timeout := time.NewTimer(q.Wait)
	defer timeout.Stop()
	interval := firstPoll
	poll := time.NewTimer(interval)
	defer poll.Stop()
	for {
		takeOver := false
		select {
		case <-ctx.Done():
			return session.LeaseResult{}, ctx.Err()
		case <-timeout.C:
			takeOver = true
		case <-stored:
		case <-poll.C:
			interval = min(2*interval, lastPoll)
			poll.Reset(interval)
		}
		result, err := r.tryAcquire(ctx, q, takeOver)
		if err != nil || !result.HeldElsewhere || takeOver {
			return result, err
		}
	}
}
