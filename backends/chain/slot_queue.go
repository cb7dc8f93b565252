package chain

import (
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// shareWindow is how long an address keeps its right to slots after its last check.
const shareWindow = 10 * time.Second

// slotQueue holds the slots of one kind of check, and the checks that wait for one.
//
// Slots are handed over first come, first served. While other addresses ask too, one address holds at most three quarters
// of the slots, and of the places in the queue: calls that hang would keep everybody else waiting. An address that asks
// alone, as all viewers behind one proxy do, has them all.
type slotQueue struct {
	setting        string
	capacity       int
	waitingSetting string
	maxWaiting     int
	refused        atomic.Uint64

	mu      sync.Mutex
	held    addressCounts
	waiting addressCounts
	waiters list.List // of *slotWaiter, the oldest first
	asking  recentAddresses
}

// slotWaiter is a check that waits for a slot.
type slotWaiter struct {
	address netip.Prefix
	element *list.Element
	granted chan struct{} // closed when it has a slot
}

// addressCounts counts things by address.
type addressCounts struct {
	total int
	by    map[netip.Prefix]int
}

func (c *addressCounts) add(address netip.Prefix, n int) {
	c.total += n
	if c.by[address] += n; c.by[address] == 0 {
		delete(c.by, address)
	}
}

func (q *slotQueue) init(backend, key string, slots, maxWaiting int) {
	q.setting, q.capacity = "backends."+backend+"."+key, slots
	q.waitingSetting, q.maxWaiting = "backends."+backend+".max_waiting", maxWaiting
	q.held.by, q.waiting.by = make(map[netip.Prefix]int), make(map[netip.Prefix]int)
}

// enter takes a slot, and returns nil, or puts the check into the queue.
func (q *slotQueue) enter(address netip.Prefix, now time.Time) (*slotWaiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asking.record(address, now)
	if q.mayTake(address, now) {
		q.held.add(address, 1)
		return nil, nil //nolint:nilnil // no waiter is the usual case
	}
	if !q.hasRoom(&q.waiting, q.maxWaiting, address, now) {
		return nil, q.overload(q.waitingSetting, q.maxWaiting)
	}
	w := &slotWaiter{address: address, granted: make(chan struct{})}
	w.element = q.waiters.PushBack(w)
	q.waiting.add(address, 1)
	return w, nil
}

// leave takes a check out of the queue. It reports whether the check has got a slot meanwhile, and so is not in it.
func (q *slotQueue) leave(w *slotWaiter) (hasSlot bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.granted:
		return true
	default:
		q.remove(w)
		return false
	}
}

// release gives a slot back, and hands free ones to the checks that wait.
func (q *slotQueue) release(address netip.Prefix) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held.add(address, -1)
	now := time.Now()
	for e := q.waiters.Front(); e != nil && q.held.total < q.capacity; {
		w := e.Value.(*slotWaiter) //nolint:forcetypeassert // the list holds nothing else
		e = e.Next()
		if q.mayTake(w.address, now) {
			q.remove(w)
			q.held.add(w.address, 1)
			close(w.granted)
		}
	}
}

func (q *slotQueue) remove(w *slotWaiter) {
	q.waiters.Remove(w.element)
	q.waiting.add(w.address, -1)
}

// mayTake reports whether a check of the address may take a slot now.
func (q *slotQueue) mayTake(address netip.Prefix, now time.Time) bool {
	return q.hasRoom(&q.held, q.capacity, address, now)
}

// hasRoom reports whether an address may have one more of what is counted.
func (q *slotQueue) hasRoom(counts *addressCounts, capacity int, address netip.Prefix, now time.Time) bool {
	share := max(1, capacity-(capacity+3)/4)
	return counts.total < capacity &&
		(counts.by[address] < share || !q.asking.hasOther(address, now.Add(-shareWindow)))
}

func (q *slotQueue) inFlight() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held.total
}

func (q *slotQueue) overload(setting string, value int) error {
	q.refused.Add(1)
	return backends.NewOverload(setting, value)
}
