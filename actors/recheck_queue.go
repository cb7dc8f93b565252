package actors

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// breakerPoll is how often a queue looks whether an open breaker has closed while sessions wait.
const breakerPoll = 100 * time.Millisecond

// probePause spaces re-checks while the breaker is half-open, so that each can be answered before the next.
const probePause = 250 * time.Millisecond

// minDropLength is the queue length from which closed sessions are dropped.
const minDropLength = 1024

// recheckQueue grants the re-checks of one backend at a bounded rate, unverified sessions first. While the breaker is open
// sessions wait here and keep their decisions. It is safe for concurrent use.
type recheckQueue struct {
	breakerState func() backends.BreakerState
	onGranted    func(*Session)
	interval     time.Duration // the shortest time between two grants of all nodes
	liveNodes    func() int    // the number of nodes that share the rate
	lastGrant    time.Time     // used by run alone
	wasReturned  atomic.Bool   // the session that the last slot was granted to did not need it

	mu      sync.Mutex
	queues  [session.NumPriorities][]*Session
	dropAt  int           // the length at which closed sessions are dropped next
	arrived chan struct{} // holds one token when a session may wait
}

func newRecheckQueue(
	perSecond int, liveNodes func() int, breakerState func() backends.BreakerState, onGranted func(*Session),
) *recheckQueue {
	return &recheckQueue{
		breakerState: breakerState,
		onGranted:    onGranted,
		liveNodes:    liveNodes,
		// Grants are evenly spaced, because a recovering backend cannot take a burst. A token bucket would follow a late grant
		// by an early one, and so exceed the rate within a second. The rate is at least one per second, so that decisions are
		// renewed at all.
		interval: time.Second / time.Duration(max(perSecond, 1)),
		arrived:  make(chan struct{}, 1),
		dropAt:   minDropLength,
	}
}

// enqueue adds the session.
func (q *recheckQueue) enqueue(s *Session, p session.QueuePriority) {
	q.mu.Lock()
	q.queues[p] = append(q.queues[p], s)
	if len(q.queues[p]) >= q.dropAt {
		q.dropClosed()
	}
	q.mu.Unlock()
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// dropClosed drops closed sessions, so that a long outage holds live ones alone. The caller holds the lock.
func (q *recheckQueue) dropClosed() {
	longest := 0
	for p := range q.queues {
		q.queues[p] = slices.DeleteFunc(q.queues[p], func(s *Session) bool { return s.isClosed.Load() })
		longest = max(longest, len(q.queues[p]))
	}
	q.dropAt = max(minDropLength, 2*longest)
}

// length returns the number of sessions that wait.
func (q *recheckQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queues[session.PriorityUnverified]) + len(q.queues[session.PriorityOverdue])
}

// run grants re-checks until ctx ends.
func (q *recheckQueue) run(ctx context.Context) {
	for {
		switch {
		case q.length() == 0:
			select {
			case <-ctx.Done():
				return
			case <-q.arrived:
			}
		case !q.grantNext(ctx):
			return
		}
	}
}

// grantNext grants at most one re-check, and reports whether ctx still lives.
func (q *recheckQueue) grantNext(ctx context.Context) bool {
	if q.breakerState() == backends.BreakerOpen {
		return pause(ctx, breakerPoll)
	}
	if d := q.delay(); d > 0 && !pause(ctx, d) {
		return false
	}
	switch q.breakerState() { // again, because the delay may be long
	case backends.BreakerOpen:
		return true
	case backends.BreakerHalfOpen:
		q.grant()
		return pause(ctx, probePause)
	default:
		q.grant()
		return true
	}
}

// delay returns how long the next grant has to wait. After a returned slot it is zero.
func (q *recheckQueue) delay() time.Duration {
	if q.wasReturned.Swap(false) {
		return 0
	}
	return time.Until(q.lastGrant.Add(q.interval * time.Duration(max(q.liveNodes(), 1))))
}

// returnSlot lets the next session have the slot of one that did not need it, because another node had checked.
func (q *recheckQueue) returnSlot() { q.wasReturned.Store(true) }

func (q *recheckQueue) grant() {
	if s := q.pop(); s != nil {
		q.onGranted(s)
		q.lastGrant = time.Now()
	}
}

// pop removes the first live session of the highest priority, or returns nil.
func (q *recheckQueue) pop() *Session {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.queues {
		for len(q.queues[p]) > 0 {
			queue := q.queues[p]
			s := queue[0]
			queue[0] = nil
			if q.queues[p] = queue[1:]; len(queue) == 1 {
				q.queues[p] = nil
			}
			if !s.isClosed.Load() {
				return s
			}
		}
	}
	return nil
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
