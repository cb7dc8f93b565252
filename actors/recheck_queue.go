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

// breakerPoll is how often a pacer looks whether its backend came back while sessions wait for that.
const breakerPoll = 100 * time.Millisecond

// probePause spaces the re-checks that are tried on a half-open breaker, so that each can have its answer.
const probePause = 250 * time.Millisecond

// minDropClosed keeps small queues from being swept at all.
const minDropClosed = 1024

// recheckQueue lets the re-checks of one backend through at a bounded rate, however many wait: those that were let in without
// an answer first. While the backend is down they wait here, keeping their decisions.
type recheckQueue struct {
	breakerState func() backends.BreakerState
	onGranted    func(*Session)
	interval     time.Duration // between two turns of all nodes, at least
	liveNodes    func() int    // that share the rate
	lastGrant    time.Time     // when the last one was given; run's own
	wasReturned  atomic.Bool   // that turn was not needed

	mu           sync.Mutex
	queues       [session.NumPriorities][]*Session
	dropClosedAt int           // how many may wait before those who are gone are swept out
	wakeUp       chan struct{} // holds one token when somebody may wait
}

func newRecheckQueue(perSecond int, nodes func() int, health func() backends.BreakerState, turn func(*Session)) *recheckQueue {
	return &recheckQueue{
		breakerState: health,
		onGranted:    turn,
		liveNodes:    nodes,
		// One at a time, evenly: a burst is what a recovering backend cannot take. At least one a second, or decisions
		// would never be renewed. A token bucket would make up for a late turn by an early one, and so let one too many
		// into a second.
		interval:     time.Second / time.Duration(max(perSecond, 1)),
		wakeUp:       make(chan struct{}, 1),
		dropClosedAt: minDropClosed,
	}
}

// enqueue lets the session wait for its turn.
func (p *recheckQueue) enqueue(s *Session, l session.QueuePriority) {
	p.mu.Lock()
	p.queues[l] = append(p.queues[l], s)
	if len(p.queues[l]) >= p.dropClosedAt {
		p.dropClosed()
	}
	p.mu.Unlock()
	select {
	case p.wakeUp <- struct{}{}:
	default:
	}
}

// dropClosed drops the sessions that ended while they waited, so that a long outage holds no more than who still watches.
func (p *recheckQueue) dropClosed() {
	longest := 0
	for l := range p.queues {
		p.queues[l] = slices.DeleteFunc(p.queues[l], func(s *Session) bool { return s.isClosed.Load() })
		longest = max(longest, len(p.queues[l]))
	}
	p.dropClosedAt = max(minDropClosed, 2*longest)
}

// length is how many sessions wait.
func (p *recheckQueue) length() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queues[session.PriorityUnverified]) + len(p.queues[session.PriorityOverdue])
}

// run gives turns until ctx ends.
func (p *recheckQueue) run(ctx context.Context) {
	for {
		switch {
		case p.length() == 0:
			select {
			case <-ctx.Done():
				return
			case <-p.wakeUp:
			}
		case !p.grantNext(ctx):
			return
		}
	}
}

// grantNext gives at most one turn and reports whether to go on.
func (p *recheckQueue) grantNext(ctx context.Context) bool {
	if p.breakerState() == backends.BreakerOpen {
		return pause(ctx, breakerPoll)
	}
	if wait := p.delay(); wait > 0 && !pause(ctx, wait) {
		return false
	}
	switch p.breakerState() { // again: a turn may be long in coming
	case backends.BreakerOpen:
		return true
	case backends.BreakerHalfOpen:
		p.grant()
		return pause(ctx, probePause)
	default:
		p.grant()
		return true
	}
}

// delay is how long the next turn has to wait. One after another that was not needed need not.
func (p *recheckQueue) delay() time.Duration {
	if p.wasReturned.Swap(false) {
		return 0
	}
	return time.Until(p.lastGrant.Add(p.interval * time.Duration(max(p.liveNodes(), 1))))
}

// returnSlot says that a turn was not needed: another node had asked.
func (p *recheckQueue) returnSlot() { p.wasReturned.Store(true) }

func (p *recheckQueue) grant() {
	if s := p.pop(); s != nil {
		p.onGranted(s)
		p.lastGrant = time.Now()
	}
}

// pop takes the first of the first lane that has one who still watches.
func (p *recheckQueue) pop() *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.queues {
		for len(p.queues[l]) > 0 {
			queue := p.queues[l]
			s := queue[0]
			queue[0] = nil
			if p.queues[l] = queue[1:]; len(queue) == 1 {
				p.queues[l] = nil
			}
			if !s.isClosed.Load() {
				return s
			}
		}
	}
	return nil
}

// pause waits and reports whether ctx still lives.
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
