package actors

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// breakerPoll is how often a queue looks whether an open breaker has closed while sessions wait.
const breakerPoll = 100 * time.Millisecond

const (
	// maxRecheckLookups is how many re-checks may wait for the store at once: enough to fill its pipelines.
	maxRecheckLookups = 256
	// backlogPoll is how often a queue looks whether the store and the backend keep up again.
	backlogPoll = time.Millisecond
)

// probePause spaces re-checks while the breaker is half-open, so that each can be answered before the next.
const probePause = 250 * time.Millisecond

// latestTimer is how late a timer may be for what it lost to be made good.
const latestTimer = 10 * time.Millisecond

// numPriorities is the number of queues.
const numPriorities = session.PriorityOverdue + 1

// minDropLength is the queue length from which closed sessions are dropped.
const minDropLength = 1024

// recheckQueue grants the re-checks of one backend at a bounded rate, unverified sessions first, and the addresses of viewers
// in turn. While the breaker is open sessions wait here and keep their decisions. So they do while the store or the backend does
// not keep up, however high the rate: granted, they would wait there, fail for that, and wait again. It is safe for concurrent use.
type recheckQueue struct {
	source    atomic.Pointer[recheckSource]
	onGranted func(s *Session, delay time.Duration)
	started   time.Time     // when the queue was made
	liveNodes func() int    // the number of nodes that share the rate
	lastGrant time.Time     // used by run alone, as due
	due       time.Time     // when the next grant is
	probes    int           // grants to a half-open breaker; used by run alone
	lookups   atomic.Int32  // re-checks that wait for the store
	returned  chan struct{} // holds one token when a session did not need its slot

	mu      sync.Mutex
	queues  [numPriorities]fairQueue
	dropAt  int           // the length at which closed sessions are dropped next
	arrived chan struct{} // holds one token when a session may wait
}

// recheckSource is the backend that is asked. It is not changed: a reload makes another one.
type recheckSource struct {
	backend  recheckedBackend
	interval time.Duration // the shortest time between two grants of all nodes
}

// recheckedBackend is what a queue needs of [Backend].
type recheckedBackend interface {
	State() backends.BreakerState
	IsBacklogged() bool
}

func newRecheckQueue(liveNodes func() int, onGranted func(s *Session, delay time.Duration)) *recheckQueue {
	return &recheckQueue{
		onGranted: onGranted,
		started:   time.Now(),
		liveNodes: liveNodes,
		arrived:   make(chan struct{}, 1),
		returned:  make(chan struct{}, 1),
		dropAt:    minDropLength,
	}
}

// follow sets the rate and the backend that the grants follow from now on.
func (q *recheckQueue) follow(perSecond int, b recheckedBackend) {
	q.source.Store(&recheckSource{backend: b, interval: spacing(perSecond)})
}

// spacing returns the time between two grants. They are even, because a recovering backend cannot take a burst. Only what a late timer
// has lost is made good, see grantedAt: with it no second has more than the rate. That is at least one per second, so that decisions
// are renewed at all.
func spacing(perSecond int) time.Duration {
	n := time.Duration(max(perSecond, 1))
	return (time.Second + latestTimer + n - 1) / n // rounded up
}

// breakerState returns the state of the backend's breaker.
func (q *recheckQueue) breakerState() backends.BreakerState { return q.source.Load().backend.State() }

// isBacklogged reports whether another re-check would wait behind many for the store, or for the backend.
func (q *recheckQueue) isBacklogged() bool {
	return q.lookups.Load() >= maxRecheckLookups || q.source.Load().backend.IsBacklogged()
}

// enqueue adds the session.
func (q *recheckQueue) enqueue(s *Session, p session.QueuePriority) {
	q.mu.Lock()
	q.queues[p].push(s, time.Since(q.started))
	if q.queues[p].length >= q.dropAt {
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
		q.queues[p].keep(func(s *Session) bool { return !s.flags.has(flagClosed) })
		longest = max(longest, q.queues[p].length)
	}
	q.dropAt = max(minDropLength, 2*longest)
}

// enqueue lets the session wait for a re-check by its backend, also by one that it gets meanwhile.
func (s *Session) enqueue(p session.QueuePriority) {
	for b := (*backendRuntime)(nil); b != s.backend.Load(); {
		b = s.backend.Load()
		b.rechecks.enqueue(s, p)
	}
}

// takeMoved lets the sessions that have another backend than the queue's wait for that one.
func (q *recheckQueue) takeMoved(backend string) {
	var moved [numPriorities][]*Session
	q.mu.Lock()
	for p := range q.queues {
		q.queues[p].keep(func(s *Session) bool {
			isOurs := s.backend.Load().name == backend
			if !isOurs {
				moved[p] = append(moved[p], s)
			}
			return isOurs
		})
	}
	q.mu.Unlock()
	for p, sessions := range moved {
		for _, s := range sessions {
			s.enqueue(session.QueuePriority(p))
		}
	}
}

// length returns the number of sessions that wait.
func (q *recheckQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.queues[session.PriorityUnverified].length + q.queues[session.PriorityOverdue].length
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
	if q.isBacklogged() {
		return pause(ctx, backlogPoll)
	}
	if !q.awaitSlot(ctx) {
		return false
	}
	switch q.breakerState() { // again, because the delay may be long
	case backends.BreakerOpen:
		return true
	case backends.BreakerHalfOpen:
		q.probes++
		q.grant(q.probes%2 == 0)
		return pause(ctx, probePause)
	default:
		q.grant(false)
		return true
	}
}

// awaitSlot waits until the next grant may be made, and reports whether ctx still lives. A returned slot is granted anew at once:
// where a session plays on many nodes, most slots are returned, and the backend would be asked less often than it may be.
func (q *recheckQueue) awaitSlot(ctx context.Context) bool {
	q.due = q.lastGrant.Add(q.source.Load().interval * time.Duration(max(q.liveNodes(), 1)))
	wait := time.Until(q.due)
	if wait <= 0 { // a grant that is late, as timers are, needs no timer
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-q.returned:
	case <-ctx.Done():
		return false
	}
	return true
}

// returnSlot lets the next session have the slot of one that did not need it, because another node had checked.
func (q *recheckQueue) returnSlot() {
	select {
	case q.returned <- struct{}{}:
	default:
	}
}

// grant grants the re-check of the first session; of the last queue that has one, if isOther.
func (q *recheckQueue) grant(isOther bool) {
	if s, since := q.pop(isOther); s != nil {
		now := time.Now()
		q.lastGrant = grantedAt(q.due, now)
		q.onGranted(s, now.Sub(q.started)-since)
	}
}

// grantedAt returns from when the next grant is spaced: a timer is late by up to a millisecond or two, which at thousands of grants
// a second would be much of the rate. So a late grant counts as made when it was due. One in a slot that was returned is early, and
// what is later than any timer had nobody to grant to.
func grantedAt(due, now time.Time) time.Time {
	if late := now.Sub(due); 0 <= late && late <= latestTimer {
		return due
	}
	return now
}

// pop removes the first live session of the highest priority, or of the lowest one, or returns nil. Since is when it was added, as
// time since the queue was made.
func (q *recheckQueue) pop(isLowest bool) (s *Session, since time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.queues {
		if isLowest {
			p = len(q.queues) - 1 - p
		}
		if s, since := q.queues[p].pop(); s != nil {
			return s, since
		}
	}
	return nil, 0
}

// fairQueue holds sessions by the addresses of their viewers. The addresses have their turns, one session each, so that an
// address with thousands of sessions does not keep the others waiting.
type fairQueue struct {
	length int
	turns  []netip.Prefix // of the addresses of which sessions wait
	of     map[netip.Prefix][]waitingSession
}

// waitingSession is a session that waits for a re-check.
type waitingSession struct {
	session *Session
	since   time.Duration // when it was added, as time since the queue was made
}

func (q *fairQueue) push(s *Session, since time.Duration) {
	address := backends.SubscriberPrefix(s.request.Address())
	if q.of == nil {
		q.of = make(map[netip.Prefix][]waitingSession)
	}
	waiting := q.of[address]
	if len(waiting) == 0 {
		q.turns = append(q.turns, address)
	}
	q.of[address] = append(waiting, waitingSession{s, since})
	q.length++
}

// pop removes the live session whose turn it is, or returns nil. A closed one takes no turn.
func (q *fairQueue) pop() (s *Session, since time.Duration) {
	for q.length > 0 {
		address := q.turns[0]
		waiting := q.of[address]
		first := waiting[0]
		waiting[0] = waitingSession{}
		q.length--
		isLive := !first.session.flags.has(flagClosed)
		switch {
		case len(waiting) == 1:
			delete(q.of, address)
			q.turns = q.turns[1:]
		case isLive:
			q.of[address], q.turns = waiting[1:], append(q.turns[1:], address)
		default:
			q.of[address] = waiting[1:]
		}
		if isLive {
			return first.session, first.since
		}
	}
	q.of, q.turns = nil, nil // their memory is that of the longest outage
	return nil, 0
}

// keep drops the sessions that are not wanted.
func (q *fairQueue) keep(isWanted func(*Session) bool) {
	q.length = 0
	for address, waiting := range q.of {
		live := slices.DeleteFunc(waiting, func(w waitingSession) bool { return !isWanted(w.session) })
		if q.of[address] = live; len(live) == 0 {
			delete(q.of, address)
		}
		q.length += len(live)
	}
	q.turns = slices.DeleteFunc(q.turns, func(address netip.Prefix) bool { return len(q.of[address]) == 0 })
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

// backend returns the backend of that name, or nil.
func (r *Registry) backend(name string) *backendRuntime { return r.backends.Load().byName[name] }
