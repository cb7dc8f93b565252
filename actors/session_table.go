package actors

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"usher/backends"
)

// tableShards bounds how many writers wait for each other. Readers never wait.
const tableShards = 256

// minSlots is a shard's first size: 256 shards of it hold ten thousand sessions before the first copy.
const minSlots = 64

// table finds sessions by id. A read takes no lock and touches one cache line of the table. Ids are keyed hashes, so
// their own bits serve as the hash.
//
// A slot's key is written once and never changed, so a reader cannot see half of one: a removed session leaves its
// key behind with no session, until the shard is copied.
type table struct {
	shards [tableShards]shard
	live   atomic.Int64
}

type shard struct {
	mu    sync.Mutex
	slots atomic.Pointer[[]slot]
	used  int // slots with a key, removed ones included
	live  int
}

type slot struct {
	high, low atomic.Uint64
	session   atomic.Pointer[Session]
}

func keyOf(id backends.SessionID) (high, low uint64) {
	return binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
}

func (t *table) shardOf(low uint64) *shard { return &t.shards[low%tableShards] }

// find returns the session, or nil. It neither locks nor allocates.
func (t *table) find(id backends.SessionID) *Session {
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

// findOrAdd returns the session of that id, adding what create makes if there is none. It is nil if create makes none,
// or if the id is zero, which names no session.
func (t *table) findOrAdd(id backends.SessionID, create func() *Session) (s *Session, added bool) {
	if id.IsZero() {
		return nil, false
	}
	high, low := keyOf(id)
	sh := t.shardOf(low)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	slots := sh.roomy()
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
	at.high.Store(high) // last: a reader who sees it sees the rest
	sh.live++
	t.live.Add(1)
	return s, true
}

// remove forgets the session, unless another one has taken its id since.
func (t *table) remove(s *Session) bool {
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
	sh.live--
	t.live.Add(-1)
	return true
}

// each calls yield for every session until it returns false. Sessions that come or go meanwhile may be missed.
func (t *table) each(yield func(*Session) bool) {
	for i := range t.shards {
		if !t.eachIn(i, yield) {
			return
		}
	}
}

// eachIn does so for one shard, and reports whether yield never returned false.
func (t *table) eachIn(shard int, yield func(*Session) bool) bool {
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

// roomy returns the shard's slots with room for one more key; at three quarters full, a copy without removed ones.
func (sh *shard) roomy() []slot {
	old := sh.slots.Load()
	if old == nil {
		fresh := make([]slot, minSlots)
		sh.slots.Store(&fresh)
		return fresh
	}
	if (sh.used+1)*4 <= len(*old)*3 {
		return *old
	}
	size := minSlots
	for size < (sh.live+1)*2 {
		size *= 2
	}
	fresh := make([]slot, size)
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
	sh.used = sh.live
	sh.slots.Store(&fresh)
	return fresh
}

// freeSlot finds a slot without a key, from the key's own place on.
func freeSlot(slots []slot, high uint64) *slot {
	mask := uint64(len(slots) - 1)
	for i := high & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		if s.high.Load() == 0 && s.low.Load() == 0 {
			return s
		}
	}
}
