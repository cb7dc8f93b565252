package actors

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"usher/backends"
)

// tableShards is the number of parts of a table that writers lock apart from each other. Readers never wait.
const tableShards = 256

// minSlots is a shard's first size. 256 shards of it hold ten thousand sessions before the first copy.
const minSlots = 64

// sessionTable finds sessions by id. A read takes no lock. Ids are keyed hashes, so their own bits serve as the hash.
//
// A slot tells the place of its session, and some bits of the id. So the slots hold no pointers, and the collector finds the sessions
// by their places: in the order in which they were made, and so in that in which they and what belongs to them lie in memory. In the
// order of their ids most of its reads would miss the processor's caches: a cycle over a million sessions would take twice the time.
type sessionTable struct {
	shards [tableShards]shard
	places places[Session]
	size   atomic.Int64 // the number of sessions
}

type shard struct {
	mu       sync.Mutex
	slots    atomic.Pointer[[]slot]
	used     int // slots that are not free, those of removed sessions included
	sessions int
}

// slot holds 32 bits of an id, and the place of that session. 0: it is free.
type slot struct{ word atomic.Uint64 }

// removedSlot is in a slot whose session was removed, so that those behind it are found. No session has that place.
const removedSlot = 1<<32 - 1

func slotWord(high uint64, place uint32) uint64 { return high>>32<<32 | uint64(place) }

func keyOf(id backends.SessionID) (high, low uint64) {
	return binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
}

func (t *sessionTable) shardOf(low uint64) *shard { return &t.shards[low%tableShards] }

// len returns the number of sessions.
func (t *sessionTable) len() int { return int(t.size.Load()) }

// find returns the session, or nil. It neither locks nor allocates.
func (t *sessionTable) find(id backends.SessionID) *Session {
	_, low := keyOf(id)
	slots := t.shardOf(low).slots.Load()
	if slots == nil {
		return nil
	}
	_, s := t.probe(*slots, id)
	return s
}

// probe finds a session and its slot, or nil. What a slot tells of a place may be outdated, so that the session's own id decides.
func (t *sessionTable) probe(slots []slot, id backends.SessionID) (*slot, *Session) {
	high, _ := keyOf(id)
	mask := uint64(len(slots) - 1)
	for i := high & mask; ; i = (i + 1) & mask {
		word := slots[i].word.Load()
		if word == 0 {
			return nil, nil
		}
		if word>>32 != high>>32 || word == removedSlot {
			continue
		}
		if s := t.places.at(uint32(word)); s != nil && s.id == id {
			return &slots[i], s
		}
	}
}

// findOrAdd returns the session of that id, and adds the one that create makes if there is none. It returns nil if create
// does, or if the id is zero, which names no session.
func (t *sessionTable) findOrAdd(id backends.SessionID, create func() *Session) (s *Session, isNew bool) {
	if id.IsZero() {
		return nil, false
	}
	high, low := keyOf(id)
	sh := t.shardOf(low)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	slots := t.reserve(sh)
	if _, s := t.probe(slots, id); s != nil {
		return s, false
	}
	if s = create(); s == nil {
		return nil, false
	}
	freeSlot(slots, high).word.Store(slotWord(high, t.places.take(s)))
	sh.used++
	sh.sessions++
	t.size.Add(1)
	return s, true
}

// replace puts the session that create makes in the place of one of the same id, and reports whether it did. Otherwise it returns what the
// table has: old if create returns nil, or nil if old has left.
func (t *sessionTable) replace(old *Session, create func() *Session) (s *Session, isReplaced bool) {
	_, low := keyOf(old.id)
	sh := t.shardOf(low)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	at, found := t.probe(*sh.slots.Load(), old.id)
	if found != old {
		return found, false
	}
	if s = create(); s == nil {
		return old, false
	}
	t.places.set(uint32(at.word.Load()), s) // a new place would be behind a reader who holds the old one
	return s, true
}

// remove removes the session, and reports whether it was in the table.
func (t *sessionTable) remove(s *Session) bool {
	_, low := keyOf(s.id)
	sh := t.shardOf(low)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	slots := sh.slots.Load()
	if slots == nil {
		return false
	}
	at, found := t.probe(*slots, s.id)
	if found != s {
		return false
	}
	place := uint32(at.word.Load())
	at.word.Store(removedSlot)
	t.places.leave(place)
	sh.sessions--
	t.size.Add(-1)
	return true
}

// each calls yield for every session until it returns false. Sessions that are added or removed meanwhile may be missed.
func (t *sessionTable) each(yield func(*Session) bool) {
	t.places.each(yield)
}

// eachIn calls yield for every session of one shard. Sessions that are added or removed meanwhile may be missed.
func (t *sessionTable) eachIn(shard int, yield func(*Session)) {
	slots := t.shards[shard].slots.Load()
	if slots == nil {
		return
	}
	for i := range *slots {
		word := (*slots)[i].word.Load()
		if word == 0 || word == removedSlot {
			continue
		}
		s := t.places.at(uint32(word))
		if s == nil {
			continue
		}
		if high, low := keyOf(s.id); high>>32 == word>>32 && low%tableShards == uint64(shard) { // otherwise the place is another's by now
			yield(s)
		}
	}
}

// reserve returns the shard's slots with room for one more key. At three quarters full, it copies them without removed keys.
func (t *sessionTable) reserve(sh *shard) []slot {
	old := sh.slots.Load()
	if old == nil {
		fresh := make([]slot, minSlots)
		sh.slots.Store(&fresh)
		return fresh
	}
	if (sh.used+1)*4 <= len(*old)*3 {
		return *old
	}
	capacity := minSlots
	for capacity < (sh.sessions+1)*2 {
		capacity *= 2
	}
	fresh := make([]slot, capacity)
	for i := range *old {
		word := (*old)[i].word.Load()
		if word == 0 || word == removedSlot {
			continue
		}
		high, _ := keyOf(t.places.at(uint32(word)).id)
		freeSlot(fresh, high).word.Store(word)
	}
	sh.used = sh.sessions
	sh.slots.Store(&fresh)
	return fresh
}

// freeSlot finds a free slot, from the id's own position on.
func freeSlot(slots []slot, high uint64) *slot {
	mask := uint64(len(slots) - 1)
	for i := high & mask; ; i = (i + 1) & mask {
		if slots[i].word.Load() == 0 {
			return &slots[i]
		}
	}
}

// rowPlaces is how many places a row has.
const rowPlaces = 4096

// places are where things are, by numbers from 1. They hold as many rows as there were needed at once. They are safe for concurrent
// use, and reading takes no lock.
type places[T any] struct {
	mu   sync.Mutex
	rows atomic.Pointer[[]*row[T]] // a longer list replaces it; nil: there is none
	// current is the row that is filled, from next on.
	current *row[T]
	next    int
}

// row is filled from its beginning to its end, so that things that are made one after another stand beside each other.
type row[T any] struct {
	things [rowPlaces]atomic.Pointer[T]
	first  uint32
	taken  int // guarded by the lock of places
}

// all returns the rows.
func (p *places[T]) all() []*row[T] {
	if rows := p.rows.Load(); rows != nil {
		return *rows
	}
	return nil
}

// at returns what has the place now, or nil. The place must be one that was taken once.
func (p *places[T]) at(place uint32) *T {
	return (*p.rows.Load())[(place-1)/rowPlaces].things[(place-1)%rowPlaces].Load()
}

// each calls yield for everything that has a place until it returns false. What comes or leaves meanwhile may be missed.
func (p *places[T]) each(yield func(*T) bool) {
	for _, row := range p.all() {
		for i := range row.things {
			if thing := row.things[i].Load(); thing != nil && !yield(thing) {
				return
			}
		}
	}
}

// take gives a thing a place.
func (p *places[T]) take(thing *T) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for ; p.current != nil && p.next < rowPlaces; p.next++ {
			if at := &p.current.things[p.next]; at.Load() == nil {
				at.Store(thing)
				p.current.taken++
				return p.current.first + uint32(p.next)
			}
		}
		p.current, p.next = p.roomyRow(), 0
	}
}

// set gives another thing a place that is taken.
func (p *places[T]) set(place uint32, thing *T) {
	p.all()[(place-1)/rowPlaces].things[(place-1)%rowPlaces].Store(thing)
}

// leave makes the place free.
func (p *places[T]) leave(place uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	row := p.all()[(place-1)/rowPlaces]
	row.things[(place-1)%rowPlaces].Store(nil)
	row.taken--
}

// roomyRow returns the row with the most room, or a new one if less than a quarter of that is free. The caller holds the lock.
func (p *places[T]) roomyRow() *row[T] {
	rows := p.all()
	if len(rows) > 0 {
		if r := slices.MinFunc(rows, func(a, b *row[T]) int { return a.taken - b.taken }); r.taken <= rowPlaces*3/4 {
			return r
		}
	}
	fresh := &row[T]{first: uint32(len(rows)*rowPlaces) + 1}
	p.rows.Store(new(append(slices.Clone(rows), fresh)))
	return fresh
}
