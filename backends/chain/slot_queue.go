package chain

import (
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// shareWindow is how long an address, and who is no stranger, keep their right to slots after their last check.
const shareWindow = 10 * time.Second

// slotQueue holds the slots of one kind of check, and the checks that wait for one.
//
// Slots are handed over first come, first served, to strangers last. While other addresses ask too, one address holds at most
// three quarters of the slots, and of the places in the queue: calls that hang would keep everybody else waiting. An address
// that asks alone, as all viewers behind one proxy do, has them all. Likewise all strangers together hold at most their share
// while others ask. If the queue is full, the stranger who came last makes room for one who is none.
type slotQueue struct {
	waitingSetting string
	maxWaiting     int
	shareSetting   string
	strangerShare  int // in percent
	refused        atomic.Uint64

	mu        sync.Mutex
	limit     slotLimit
	held      slotCounts
	waiting   slotCounts
	waiters   list.List // of *slotWaiter who are no strangers, the oldest first
	strangers list.List // of *slotWaiter who are, the oldest first
	asking    recentAddresses
	knownAt   time.Time // when one who is no stranger asked last
}

// slotClaim is whose check wants a slot.
type slotClaim struct {
	address    netip.Prefix
	isStranger bool
}

// slotWaiter is a check that waits for a slot.
type slotWaiter struct {
	slotClaim
	element *list.Element
	slot    *slot         // nil: none yet; guarded by the queue's lock, as is isDisplaced
	ended   chan struct{} // closed when it has a slot, or is displaced
	// isDisplaced: it made room for one who is no stranger.
	isDisplaced bool
}

// slotCounts counts slots, or places in the queue, by their holders.
type slotCounts struct {
	total, strangers int
	by               map[netip.Prefix]int
}

func (c *slotCounts) add(of slotClaim, n int) {
	c.total += n
	if of.isStranger {
		c.strangers += n
	}
	if c.by[of.address] += n; c.by[of.address] == 0 {
		delete(c.by, of.address)
	}
}

func (q *slotQueue) init(backend, key string, least, most int, c BulkheadConfig) {
	q.limit = newSlotLimit("backends."+backend+"."+key, least, most)
	q.waitingSetting, q.maxWaiting = "backends."+backend+".max_waiting", c.MaxWaiting
	q.shareSetting, q.strangerShare = "backends."+backend+".stranger_share_percent", c.StrangerShare
	q.held.by, q.waiting.by = make(map[netip.Prefix]int), make(map[netip.Prefix]int)
}

// enter takes a slot, or puts the check into the queue.
func (q *slotQueue) enter(c slotClaim, now time.Time) (*slot, *slotWaiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asking.record(c.address, now)
	if !c.isStranger {
		q.knownAt = now
	}
	if q.mayTake(c, now) {
		return q.take(c, now), nil, nil
	}
	if !c.isStranger && q.waiting.total >= q.maxWaiting {
		q.displace()
	}
	switch {
	case !q.hasStrangerRoom(&q.waiting, q.maxWaiting, c, now):
		return nil, nil, q.overload(q.shareSetting, q.strangerShare)
	case !q.hasRoom(&q.waiting, q.maxWaiting, c, now):
		return nil, nil, q.overload(q.waitingSetting, q.maxWaiting)
	}
	w := &slotWaiter{slotClaim: c, ended: make(chan struct{})}
	w.element = q.lineOf(c).PushBack(w)
	q.waiting.add(c, 1)
	return nil, w, nil
}

// isBacklogged reports whether as many checks wait as there are slots.
func (q *slotQueue) isBacklogged() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting.total >= q.limit.current
}

func (q *slotQueue) take(c slotClaim, now time.Time) *slot {
	s := q.limit.take(c, q.held.total, q.waiting.total > 0, now)
	q.held.add(c, 1)
	return &s
}

func (q *slotQueue) lineOf(c slotClaim) *list.List {
	if c.isStranger {
		return &q.strangers
	}
	return &q.waiters
}

// displace takes the stranger who came last out of the queue, if there is one.
func (q *slotQueue) displace() {
	if last := q.strangers.Back(); last != nil {
		w := last.Value.(*slotWaiter) //nolint:forcetypeassert // the list holds nothing else
		q.remove(w)
		w.isDisplaced = true
		close(w.ended)
	}
}

// leave takes a check out of the queue. It returns the slot that the check has got meanwhile, and whether it was displaced:
// then it is not in it.
func (q *slotQueue) leave(w *slotWaiter) (got *slot, isDisplaced bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.slot == nil && !w.isDisplaced {
		q.remove(w)
	}
	return w.slot, w.isDisplaced
}

// release gives a slot back whose call ended with err, and hands free ones to the checks that wait.
func (q *slotQueue) release(s *slot, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.limit.onAnswer(*s, err, q.waiting.total > 0, now)
	q.held.add(s.slotClaim, -1)
	q.grant(&q.waiters, now)
	q.grant(&q.strangers, now)
}

// grant hands free slots to the checks of one line.
func (q *slotQueue) grant(line *list.List, now time.Time) {
	for e := line.Front(); e != nil && q.held.total < q.limit.current; {
		w := e.Value.(*slotWaiter) //nolint:forcetypeassert // the list holds nothing else
		e = e.Next()
		if w.isStranger && !q.hasStrangerRoom(&q.held, q.limit.current, w.slotClaim, now) {
			return // nor has any after it
		}
		if q.mayTake(w.slotClaim, now) {
			w.slot = q.take(w.slotClaim, now)
			q.remove(w)
			close(w.ended)
		}
	}
}

func (q *slotQueue) remove(w *slotWaiter) {
	q.lineOf(w.slotClaim).Remove(w.element)
	q.waiting.add(w.slotClaim, -1)
}

// mayTake reports whether a check may take a slot now.
func (q *slotQueue) mayTake(c slotClaim, now time.Time) bool {
	return q.hasStrangerRoom(&q.held, q.limit.current, c, now) && q.hasRoom(&q.held, q.limit.current, c, now)
}

// hasRoom reports whether an address may have one more of what is counted.
func (q *slotQueue) hasRoom(counts *slotCounts, capacity int, c slotClaim, now time.Time) bool {
	share := max(1, capacity-(capacity+3)/4)
	return counts.total < capacity &&
		(counts.by[c.address] < share || !q.asking.hasOther(c.address, now.Add(-shareWindow)))
}

// hasStrangerRoom reports whether a stranger may have one more of what is counted, as far as the share of all strangers goes.
func (q *slotQueue) hasStrangerRoom(counts *slotCounts, capacity int, c slotClaim, now time.Time) bool {
	return !c.isStranger || now.Sub(q.knownAt) > shareWindow || counts.strangers < max(1, capacity*q.strangerShare/100)
}

func (q *slotQueue) inFlight() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held.total
}

func (q *slotQueue) limitNow() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit.current
}

// full returns the overload of a check that got no slot.
func (q *slotQueue) full() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.overload(q.limit.setting, &q.limit)
}

func (q *slotQueue) overload(setting string, value any) error {
	q.refused.Add(1)
	return backends.NewOverload(setting, value)
}
