package actors

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/backends"
)

// bareSession returns a session without an actor.
func bareSession(id backends.SessionID) *Session {
	s := &Session{id: id}
	s.backend.Store(&backendRuntime{name: "portal", policy: plainPolicy()})
	return s
}

func newBareSession(id backends.SessionID) func() *Session {
	return func() *Session { return bareSession(id) }
}

func TestSessionTable_BehavesLikeMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var tab sessionTable
		model := make(map[backends.SessionID]*Session)
		var removed []*Session
		// Ids that differ in a few bits only share shards and slots. Zero names no session.
		ids := rapid.Custom(func(t *rapid.T) backends.SessionID {
			var id backends.SessionID
			binary.LittleEndian.PutUint64(id[:8], rapid.Uint64Range(0, 3).Draw(t, "high"))
			binary.LittleEndian.PutUint64(id[8:], 256*rapid.Uint64Range(0, 60).Draw(t, "low"))
			return id
		})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				s, added := tab.findOrAdd(id, newBareSession(id))
				was := model[id]
				if id.IsZero() {
					if s != nil || added {
						t.Fatalf("findOrAdd of the zero id gave %v, %v; want nil, false", s, added)
					}
					return
				}
				if added != (was == nil) || was != nil && s != was {
					t.Fatalf("findOrAdd(%v) gave %p, %v; want %p", id, s, added, was)
				}
				model[id] = s
			},
			"add nothing": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				if s, added := tab.findOrAdd(id, func() *Session { return nil }); added || s != model[id] {
					t.Fatalf("findOrAdd of nothing gave %p, %v; want %p, false", s, added, model[id])
				}
			},
			"remove": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				s := model[id]
				if s == nil {
					s = bareSession(id)
				}
				if got, want := tab.remove(s), model[id] != nil; got != want {
					t.Fatalf("remove(%v) = %v, want %v", id, got, want)
				}
				delete(model, id)
				removed = append(removed, s)
			},
			"remove again": func(t *rapid.T) {
				if len(removed) > 0 && tab.remove(removed[rapid.IntRange(0, len(removed)-1).Draw(t, "which")]) {
					t.Fatalf("a removed session was removed again")
				}
			},
			"": func(t *rapid.T) {
				if got := int(tab.size.Load()); got != len(model) {
					t.Fatalf("%d sessions, want %d", got, len(model))
				}
				for id, want := range model {
					if got := tab.find(id); got != want {
						t.Fatalf("find(%v) = %p, want %p", id, got, want)
					}
				}
				seen := 0
				tab.each(func(s *Session) bool {
					seen++
					return model[s.id] == s
				})
				if seen != len(model) {
					t.Fatalf("each visited %d sessions, want %d", seen, len(model))
				}
			},
		})
	})
}

func TestSessionTable_CapacityFollowsLiveSessions(t *testing.T) {
	t.Parallel()
	var tab sessionTable
	const many = 4000 // several growths of each shard
	for round := range 3 {
		for i := range many {
			id := idOf(round*many + i)
			tab.findOrAdd(id, newBareSession(id))
		}
		for i := range many {
			s := tab.find(idOf(round*many + i))
			if s == nil {
				t.Fatalf("round %d: session %d is lost", round, i)
			}
			tab.remove(s)
		}
	}
	slots := 0
	for i := range tab.shards {
		slots += len(*tab.shards[i].slots.Load())
	}
	if slots > 8*many {
		t.Errorf("%d slots after %d sessions were added and removed, want at most %d", slots, 3*many, 8*many)
	}
	if s := tab.find(idOf(1)); s != nil || tab.size.Load() != 0 {
		t.Errorf("found %v and %d live sessions in an empty table", s, tab.size.Load())
	}
}

// TestShard_Reserve copies a shard at three quarters full, without removed keys, to twice what lives.
func TestShard_Reserve(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		added, removed int
		isCopied       bool
		capacity       int
	}{
		"empty":                              {0, 0, false, minSlots},
		"one key below three quarters":       {47, 0, false, minSlots},
		"at three quarters, all live":        {48, 0, true, 128},
		"at three quarters, half live":       {48, 16, true, 128},
		"at three quarters, fewer than half": {48, 17, true, minSlots},
		"at three quarters, none live":       {48, 48, true, minSlots},
		"a larger one":                       {96, 0, true, 256},
		"a larger one, with room":            {95, 0, false, 128},
	} {
		var tab sessionTable
		sh := &tab.shards[0]
		tab.reserve(sh)
		for i := range test.added {
			var id backends.SessionID
			binary.LittleEndian.PutUint64(id[:8], uint64(i)*0x9e3779b97f4a7c15)
			binary.LittleEndian.PutUint64(id[8:], tableShards*uint64(i+1))
			s, _ := tab.findOrAdd(id, newBareSession(id))
			if i < test.removed {
				tab.remove(s)
			}
		}
		before := sh.slots.Load()
		if got := len(tab.reserve(sh)); got != test.capacity || (sh.slots.Load() != before) != test.isCopied {
			t.Errorf("%s: %d slots, copied %t; want %d, %t", name, got, sh.slots.Load() != before, test.capacity, test.isCopied)
		}
		live := test.added - test.removed
		if used := sh.used; sh.sessions != live || tab.len() != live || test.isCopied && used != live || !test.isCopied && used != test.added {
			t.Errorf("%s: %d sessions, %d keys, %d in all; want %d sessions", name, sh.sessions, used, tab.len(), live)
		}
	}
}

func TestSessionTable_Concurrent(t *testing.T) {
	t.Parallel()
	var tab sessionTable
	const (
		ids     = 3000 // several growths of each shard
		rounds  = 4
		workers = 4
	)
	steady := idOf(-1) // always found
	tab.findOrAdd(steady, newBareSession(steady))
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			order := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				for _, i := range order.Perm(ids) {
					id := idOf(i)
					s, _ := tab.findOrAdd(id, newBareSession(id))
					if s == nil || s.ID() != id {
						t.Errorf("findOrAdd(%v) gave another session", id)
						return
					}
					if f := tab.find(id); f != nil && f.ID() != id {
						t.Errorf("find(%v) gave another session", id)
						return
					}
					if i%2 == 0 {
						tab.remove(s)
					}
					if tab.find(steady) == nil {
						t.Error("a session that was not removed was not found")
						return
					}
				}
			}
		})
	}
	all.Wait()
	for i := 1; i < ids; i += 2 {
		if tab.find(idOf(i)) == nil {
			t.Errorf("session %d is lost", i)
		}
	}
	counted := 0
	tab.each(func(*Session) bool { counted++; return true })
	if got := int(tab.size.Load()); got != counted {
		t.Errorf("%d live sessions by the counter, %d by walking", got, counted)
	}
}

func TestSessionTable_Each_StopsOnFalse(t *testing.T) {
	t.Parallel()
	var tab sessionTable
	for i := range 10 {
		tab.findOrAdd(idOf(i), newBareSession(idOf(i)))
	}
	met := 0
	tab.each(func(*Session) bool { met++; return met < 3 })
	if met != 3 {
		t.Errorf("visited %d sessions, want 3", met)
	}
}

// TestPlaces_Take puts sessions that are made one after another beside each other, and uses rows again of which a quarter is free.
func TestPlaces_Take(t *testing.T) {
	t.Parallel()
	var p places[Session]
	const rows = 3
	var all []uint32
	for i := range rows * rowPlaces {
		all = append(all, p.take(bareSession(idOf(i))))
		if all[i] != uint32(i+1) || p.at(all[i]).id != idOf(i) {
			t.Fatalf("session %d has place %d", i, all[i])
		}
	}
	for i, place := range all[rowPlaces : 2*rowPlaces] { // of the second row every other one
		if i%2 == 0 {
			p.leave(place)
		}
	}
	for i := range 3 { // of the third row too few
		p.leave(all[2*rowPlaces+i])
	}
	for i := range rowPlaces / 2 {
		if got, want := p.take(bareSession(idOf(i))), uint32(rowPlaces+2*i+1); got != want {
			t.Fatalf("session %d has place %d, want %d", i, got, want)
		}
	}
	if got, want := p.take(bareSession(idOf(1))), uint32(rows*rowPlaces+1); got != want || len(p.all()) != rows+1 {
		t.Errorf("place %d of %d rows, want %d in a new row", got, len(p.all()), want)
	}
}

// hotPath does what every segment does: it finds the session, reads its decision and counts the request.
func hotPath(tab *sessionTable, id backends.SessionID, now time.Time) bool {
	s := tab.find(id)
	if s == nil {
		return false
	}
	d := s.Decision()
	if d == nil || d.Verdict != backends.Allowed || !s.Admit(prefixOf(7), now) {
		return false
	}
	s.Seen(now, true)
	s.Sent(188)
	return true
}

func TestSession_HotPath_NoAllocations(t *testing.T) {
	var tab sessionTable
	d := allowedDecision()
	id := idOf(1)
	s, _ := tab.findOrAdd(id, newBareSession(id))
	s.decision.Store(&d)
	s.ticketUse = &ticketUse{root: id}
	s.ticketUse.add(addressUse{prefix: prefixOf(7), id: id}, 60)
	now := t0()
	if !hotPath(&tab, id, now) {
		t.Fatal("viewer not admitted")
	}
	allocations := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second) // a new second takes the slower path of a shared session
		hotPath(&tab, id, now)
	})
	if allocations != 0 {
		t.Errorf("%v allocations per request, want 0", allocations)
	}
}

// TestSessionTable_Replace_FoundThroughout replaces a session again and again, and finds one of that id at any time.
func TestSessionTable_Replace_FoundThroughout(t *testing.T) {
	t.Parallel()
	var tab sessionTable
	id := idOf(1)
	first, _ := tab.findOrAdd(id, newBareSession(id))
	last := first
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if s := tab.find(id); s == nil || s.id != id {
				t.Errorf("found %v while the session is replaced", s)
				return
			}
		}
	}()
	for range 10_000 {
		s, isReplaced := tab.replace(last, newBareSession(id))
		if !isReplaced || s == last || tab.find(id) != s {
			t.Fatal("not replaced")
		}
		last = s
	}
	close(stop)
	<-done
	if s, isReplaced := tab.replace(first, newBareSession(id)); isReplaced || s != last {
		t.Errorf("a session that had left was replaced: %v", isReplaced)
	}
	if s, isReplaced := tab.replace(last, func() *Session { return nil }); isReplaced || s != last {
		t.Errorf("replaced by nothing: %v", isReplaced)
	}
	if tab.remove(first) || tab.len() != 1 || !tab.remove(last) || tab.len() != 0 {
		t.Errorf("%d sessions are left, want none", tab.len())
	}
	if s, isReplaced := tab.replace(last, newBareSession(id)); isReplaced || s != nil {
		t.Errorf("a session that was removed was replaced by %v", s)
	}
}
