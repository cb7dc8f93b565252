package freerides

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"

	"usher/backends"
)

const (
	// sampleSize is how many sessions of an outage a node keeps one by one. Ids are keyed hashes, so those with the smallest are
	// a random sample, and the same one on every node. Up to that many the merged report is exact.
	sampleSize = 1000
	// maxUsers is how many free riders a node keeps of an outage with more sessions. Beyond that it forgets the half with the
	// shortest time.
	maxUsers = 1000
	// usersPerPart is how many of them a part holds.
	usersPerPart = 50
)

// sample holds the sessions with the smallest ids.
type sample struct {
	byID    map[backends.SessionID]*entry
	largest idHeap
	// isFull reports that there were others.
	isFull bool
}

func newSample() sample { return sample{byID: make(map[backends.SessionID]*entry)} }

// find returns the session, or nil.
func (s *sample) find(id backends.SessionID) *entry { return s.byID[id] }

// add adds a session that find does not know, and returns nil if it is not of the sample.
func (s *sample) add(id backends.SessionID) *entry {
	if len(s.byID) >= sampleSize {
		s.isFull = true
		if bytes.Compare(id[:], s.largest[0][:]) >= 0 {
			return nil
		}
		delete(s.byID, s.largest[0])
		heap.Pop(&s.largest)
	}
	e := &entry{ID: id}
	s.byID[id] = e
	heap.Push(&s.largest, id)
	return e
}

// idHeap is a heap of ids, the largest first.
type idHeap []backends.SessionID

func (h idHeap) Len() int           { return len(h) }
func (h idHeap) Less(i, j int) bool { return bytes.Compare(h[i][:], h[j][:]) > 0 }
func (h idHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push adds an id.
func (h *idHeap) Push(x any) {
	id, _ := x.(backends.SessionID)
	*h = append(*h, id)
}

// Pop removes the last id.
func (h *idHeap) Pop() any {
	last := len(*h) - 1
	id := (*h)[last]
	*h = (*h)[:last]
	return id
}

// users adds up free rides by user.
type users map[string]*cost

// add adds a free ride, or several.
func (u users) add(c cost) {
	key := "user " + c.User
	if c.User == "" {
		key = "session " + c.Session
	}
	total := u[key]
	if total == nil {
		total = &cost{User: c.User, Session: c.Session}
		u[key] = total
	}
	total.Sessions, total.Time, total.Bytes = total.Sessions+c.Sessions, total.Time+c.Time, total.Bytes+c.Bytes
}

// worst returns the users with the longest time, at most limit.
func (u users) worst(limit int) []cost {
	all := make([]cost, 0, len(u))
	for _, c := range u {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b cost) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.User, b.User), cmp.Compare(a.Session, b.Session))
	})
	return all[:min(limit, len(all))]
}

// bound forgets the half of too many users whose time is the shortest.
func (u users) bound() {
	if len(u) <= maxUsers {
		return
	}
	kept := u.worst(maxUsers / 2)
	clear(u)
	for _, c := range kept {
		u.add(c)
	}
}
