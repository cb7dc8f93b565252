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

// downPoll is how often a pacer looks whether its backend came back while sessions wait for that.
const downPoll = 100 * time.Millisecond

// probePause spaces the re-checks that are tried on a half-open breaker, so that each can have its answer.
const probePause = 250 * time.Millisecond

// minSweep keeps small queues from being swept at all.
const minSweep = 1024

// pacer lets the re-checks of one backend through at a bounded rate, however many wait: those that were let in without
// an answer first. While the backend is down they wait here, keeping their decisions.
type pacer struct {
	health func() backends.BreakerState
	turn   func(*Session)
	gap    time.Duration // between two turns of all nodes, at least
	nodes  func() int    // that share the rate
	last   time.Time     // when the last one was given; run's own
	unused atomic.Bool   // that turn was not needed

	mu      sync.Mutex
	waiting [session.NumPriorities][]*Session
	sweepAt int           // how many may wait before those who are gone are swept out
	arrived chan struct{} // holds one token when somebody may wait
}

func newPacer(perSecond int, nodes func() int, health func() backends.BreakerState, turn func(*Session)) *pacer {
	return &pacer{
		health: health,
		turn:   turn,
		nodes:  nodes,
		// One at a time, evenly: a burst is what a recovering backend cannot take. At least one a second, or decisions
		// would never be renewed. A token bucket would make up for a late turn by an early one, and so let one too many
		// into a second.
		gap:     time.Second / time.Duration(max(perSecond, 1)),
		arrived: make(chan struct{}, 1),
		sweepAt: minSweep,
	}
}

// enqueue lets the session wait for its turn.
func (p *pacer) enqueue(s *Session, l session.QueuePriority) {
	p.mu.Lock()
	p.waiting[l] = append(p.waiting[l], s)
	if len(p.waiting[l]) >= p.sweepAt {
		p.sweep()
	}
	p.mu.Unlock()
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// sweep drops the sessions that ended while they waited, so that a long outage holds no more than who still watches.
func (p *pacer) sweep() {
	longest := 0
	for l := range p.waiting {
		p.waiting[l] = slices.DeleteFunc(p.waiting[l], func(s *Session) bool { return s.gone.Load() })
		longest = max(longest, len(p.waiting[l]))
	}
	p.sweepAt = max(minSweep, 2*longest)
}

// length is how many sessions wait.
func (p *pacer) length() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting[session.PriorityUnverified]) + len(p.waiting[session.PriorityOverdue])
}

// run gives turns until ctx ends.
func (p *pacer) run(ctx context.Context) {
	for {
		switch {
		case p.length() == 0:
			select {
			case <-ctx.Done():
				return
			case <-p.arrived:
			}
		case !p.step(ctx):
			return
		}
	}
}

// step gives at most one turn and reports whether to go on.
func (p *pacer) step(ctx context.Context) bool {
	if p.health() == backends.BreakerOpen {
		return pause(ctx, downPoll)
	}
	if wait := p.wait(); wait > 0 && !pause(ctx, wait) {
		return false
	}
	switch p.health() { // again: a turn may be long in coming
	case backends.BreakerOpen:
		return true
	case backends.BreakerHalfOpen:
		p.giveTurn()
		return pause(ctx, probePause)
	default:
		p.giveTurn()
		return true
	}
}

// wait is how long the next turn has to wait. One after another that was not needed need not.
func (p *pacer) wait() time.Duration {
	if p.unused.Swap(false) {
		return 0
	}
	return time.Until(p.last.Add(p.gap * time.Duration(max(p.nodes(), 1))))
}

// refund says that a turn was not needed: another node had asked.
func (p *pacer) refund() { p.unused.Store(true) }

func (p *pacer) giveTurn() {
	if s := p.next(); s != nil {
		p.turn(s)
		p.last = time.Now()
	}
}

// next takes the first of the first lane that has one who still watches.
func (p *pacer) next() *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.waiting {
		for len(p.waiting[l]) > 0 {
			queue := p.waiting[l]
			s := queue[0]
			queue[0] = nil
			if p.waiting[l] = queue[1:]; len(queue) == 1 {
				p.waiting[l] = nil
			}
			if !s.gone.Load() {
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
