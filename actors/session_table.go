package actors

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"usher/backends"
)

// tableShards is the number of parts of a table that writers lock apart from each other. Readers never wait.
const tableShards = 256

// minSlots is a shard's first size. 256 shards of it hold ten thousand sessions before the first copy.
const minSlots = 64

// sessionTable finds sessions by id. A read takes no lock and touches one cache line of the table. Ids are keyed hashes, so
// their own bits serve as the hash.
//
// A slot's key is written once and never changed, so a reader cannot see half of one. A removed session leaves its key behind
// without a session, until the shard is copied.
type sessionTable struct {
	shards [tableShards]shard
	size   atomic.Int64 // the number of sessions
}

type shard struct {
	mu       sync.Mutex
	slots    atomic.Pointer[[]slot]
	used     int // slots with a key, removed ones included
	sessions int
}

type slot struct {
	high, low atomic.Uint64
	session   atomic.Pointer[Session]
}

func keyOf(id backends.SessionID) (high, low uint64) {
	return binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
}

func (t *sessionTable) shardOf(low uint64) *shard { return &t.shards[low%tableShards] }

// len returns the number of sessions.
func (t *sessionTable) len() int { return int(t.size.Load()) }

// find returns the session, or nil. It neither locks nor allocates.
func (t *sessionTable) find(id backends.SessionID) *Session {
	high, low := keyOf(id)
	slots := t.shardOf(low).slots.Load()
	if slots == nil {
		return nil
	}
	if at := probe(*slots, high, low); at != nil {
		return at.session.Load()
	}
	return nil
}

// probe finds the slot with the key, or nil.
func probe(slots []slot, high, low uint64) *slot {
	mask := uint64(len(slots) - 1)
	for i := high & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		switch h := s.high.Load(); {
		case h == high && s.low.Load() == low:
			return s
		case h == 0 && s.low.Load() == 0:
			return nil
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
	slots := sh.reserve()
	at := probe(slots, high, low)
	if at != nil {
		if s := at.session.Load(); s != nil {
			return s, false
		}
	}
	if s = create(); s == nil {
		return nil, false
	}
	if at == nil {
		at = freeSlot(slots, high)
		sh.used++
	}
	at.session.Store(s)
	at.low.Store(low)
	at.high.Store(high) // last: a reader that sees it sees the rest
	sh.sessions++
	t.size.Add(1)
	return s, true
}

// remove removes the session, and reports whether it was in the table.
func (t *sessionTable) remove(s *Session) bool {
	high, low := keyOf(s.id)
	sh := t.shardOf(low)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	slots := sh.slots.Load()
	if slots == nil {
		return false
	}
	at := probe(*slots, high, low)
	if at == nil || at.session.Load() != s {
		return false
	}
	at.session.Store(nil)
	sh.sessions--
	t.size.Add(-1)
	return true
}

// each calls yield for every session until it returns false. Sessions that are added or removed meanwhile may be missed.
func (t *sessionTable) each(yield func(*Session) bool) {
	for i := range t.shards {
		if !t.eachIn(i, yield) {
			return
		}
	}
}

// eachIn calls yield for every session of one shard, and reports whether it never returned false.
func (t *sessionTable) eachIn(shard int, yield func(*Session) bool) bool {
	slots := t.shards[shard].slots.Load()
	if slots == nil {
		return true
	}
	for j := range *slots {
		if s := (*slots)[j].session.Load(); s != nil && !yield(s) {
			return false
		}
	}
	return true
}

// reserve returns the shard's slots with room for one more key. At three quarters full, it copies them without removed keys.
func (sh *shard) reserve() []slot {
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
		s := (*old)[i].session.Load()
		if s == nil {
			continue
		}
		high, low := keyOf(s.id)
		to := freeSlot(fresh, high)
		to.session.Store(s)
		to.low.Store(low)
		to.high.Store(high)
	}
	sh.used = sh.sessions
	sh.slots.Store(&fresh)
	return fresh
}

// freeSlot finds a slot without a key, from the key's own position on.
func freeSlot(slots []slot, high uint64) *slot {
	mask := uint64(len(slots) - 1)
	for i := high & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		if s.high.Load() == 0 && s.low.Load() == 0 {
			return s
		}
	}
}
