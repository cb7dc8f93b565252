package cluster

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

func TestMemoryConfig_Validate(t *testing.T) {
	t.Parallel()
	for sessions, isValid := range map[int]bool{-1: false, 0: false, 1: true, 500_000: true} {
		if err := (MemoryConfig{MaxSessions: sessions}).Validate(); (err == nil) != isValid {
			t.Errorf("%d sessions: error %v", sessions, err)
		}
	}
}

// TestOutcomeBeside stores a decision beside one that holds: the backend's stays, unless it is the older one.
func TestOutcomeBeside(t *testing.T) {
	t.Parallel()
	o := openedAgo(10)
	older, newer := o.Add(-time.Minute), o.Add(time.Minute)
	for name, test := range map[string]struct {
		stored, decided backends.Source
		storedRevision  uint64
		revision        uint64
		opened          time.Time
		revokes         bool
		want            session.UpdateOutcome
	}{
		"the backend's renewal":                     {backends.FromBackend, backends.FromBackend, 1, 2, o, false, session.OutcomeStored},
		"a fallback beside the backend's":           {backends.FromBackend, backends.FromFailOpen, 1, 2, o, false, session.OutcomeKept},
		"the backend's beside a fallback":           {backends.FromFailOpen, backends.FromBackend, 1, 0, o, false, session.OutcomeStored},
		"a fallback beside a fallback":              {backends.FromFailOpen, backends.FromCached, 1, 0, o, false, session.OutcomeStored},
		"one without a lease":                       {backends.FromBackend, backends.FromBackend, 1, 0, o, false, session.OutcomeKept},
		"a denial without a lease":                  {backends.FromBackend, backends.FromBackend, 1, 0, o, true, session.OutcomeStored},
		"one of a session that was opened before":   {backends.FromBackend, backends.FromBackend, 1, 2, older, false, session.OutcomeStale},
		"a denial of one that was opened before":    {backends.FromBackend, backends.FromBackend, 1, 2, older, true, session.OutcomeKept},
		"one that was opened later":                 {backends.FromBackend, backends.FromBackend, 1, 2, newer, false, session.OutcomeStored},
		"one that was opened later, without lease":  {backends.FromBackend, backends.FromBackend, 1, 0, newer, false, session.OutcomeStale},
		"the same where nothing was leased":         {backends.FromBackend, backends.FromBackend, 0, 0, newer, false, session.OutcomeStored},
		"one that was opened later, beside a guess": {backends.FromFailOpen, backends.FromBackend, 1, 0, newer, false, session.OutcomeStored},
	} {
		old := &session.Record{Opened: o, Revision: test.storedRevision, Decision: backends.Decision{Verdict: backends.Allowed, Source: test.stored}}
		u := &session.DecisionUpdate{RevokeTicket: test.revokes, Record: session.Record{
			Opened: test.opened, Revision: test.revision, Decision: backends.Decision{Verdict: backends.Allowed, Source: test.decided},
		}}
		if got := outcomeBeside(old, u); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// joinedHistories are histories and what they are together.
func joinedHistories() []struct{ before, next, want string } {
	full := strings.Repeat("x", maxHistorySize-2)
	flapped := strings.Repeat("allowed/backend,denied/ban,", 18)
	banned := flapped + "denied/limit,denied/ban" // 509 bytes
	return []struct{ before, next, want string }{
		{"", "", ""},
		{"a", "", "a"},
		{"", "a,b", "a,b"},
		{"a", "b", "a,b"},
		{"a,b", "b,c", "a,b,c"},
		{"a,b", "b", "a,b"},
		{"b,a", "b", "b,a,b"},
		{"a,d", "a,d", "a,d"},
		{"a,c,d", "a,d", "a,c,d"},
		{"a,d", "a,c,d", "a,c,d"},
		{"a,d", "b,d", "a,d,b,d"},
		{"a,d,a", "a,d", "a,d,a,d"},
		{"a,cd", "d,a,d", "a,cd,d,a,d"},
		{full, "y", full + ",y"},
		{full, "yz", "yz"},
		{"a," + full[2:], "y", "a," + full[2:] + ",y"},
		{"a," + full[1:], "y", full[1:] + ",y"},
		{"ab,c," + full[4:], "y", "c," + full[4:] + ",y"},
		{banned, "allowed/backend", strings.TrimPrefix(banned, "allowed/backend,") + ",allowed/backend"},
		{banned, "denied/ban,allowed/backend", strings.TrimPrefix(banned, "allowed/backend,") + ",allowed/backend"},
		{flapped + "allowed/backend", "denied/ban", flapped + "allowed/backend,denied/ban"},
	}
}

func TestJoinHistory(t *testing.T) {
	t.Parallel()
	for _, test := range joinedHistories() {
		if got := joinHistory(test.before, test.next); got != test.want {
			t.Errorf("%q and %q: got %q, want %q", test.before, test.next, got, test.want)
		}
	}
}

// TestMemory_Periods begins a new period when a viewer returns whose session was closed.
func TestMemory_Periods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMemory(MemoryConfig{MaxSessions: 10}, time.Hour, testRules)
		must(t, err)
		defer m.Close()
		ctx := t.Context()
		opened := time.Now()
		save := func() {
			t.Helper()
			_, err := m.SaveDecision(ctx, session.DecisionUpdate{Record: session.Record{
				ID: idOf(1), Opened: opened, Decision: backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}, Expires: time.Now().Add(time.Hour),
			}})
			must(t, err)
		}
		expire := func() session.ClosingRecord {
			t.Helper()
			must(t, m.AddCounters(ctx, idOf(1), session.Counters{Requests: 2}))
			_, err := m.RecordHeartbeats(ctx, []session.Heartbeat{{ID: idOf(1), LastSeen: time.Now()}})
			must(t, err)
			time.Sleep(time.Minute - 1)
			if closed, _ := m.ExpireIdle(ctx, time.Minute, 10); len(closed) != 0 {
				t.Errorf("closed too early: %+v", closed)
			}
			time.Sleep(time.Nanosecond)
			closed, err := m.ExpireIdle(ctx, time.Minute, 10)
			if must(t, err); len(closed) != 1 || closed[0].Counters.Requests != 2 {
				t.Fatalf("closed %+v, want the session with its two requests", closed)
			}
			return closed[0]
		}
		save()
		time.Sleep(10 * time.Second)
		if c := expire(); !c.Since.Equal(opened) || c.LastSeen.Sub(opened) != 10*time.Second {
			t.Errorf("the first period is from %v to %v", c.Since, c.LastSeen)
		}
		returned := time.Now()
		save() // by another node's decision
		time.Sleep(5 * time.Second)
		if c := expire(); !c.Since.Equal(returned) {
			t.Errorf("the second period began %v after the first, want %v", c.Since.Sub(opened), returned.Sub(opened))
		}
		returned = time.Now()
		_, err = m.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1), KnownRevision: 1}) // nobody is back
		must(t, err)
		time.Sleep(5 * time.Second)
		_, err = m.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
		must(t, err)
		time.Sleep(5 * time.Second)
		if c := expire(); c.Since.Sub(returned) != 5*time.Second {
			t.Errorf("the third period began %v late, want when the viewer was back", c.Since.Sub(returned))
		}
	})
}

// TestMemory_RevokeSession_All revokes the tickets that exist, also one that was opened in this second.
func TestMemory_RevokeSession_All(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMemory(MemoryConfig{MaxSessions: 10}, time.Hour, testRules)
		must(t, err)
		defer m.Close()
		time.Sleep(300 * time.Millisecond)
		now := time.Now()
		for i, opened := range []time.Time{now.Add(-time.Minute), now, now.Add(time.Second)} {
			_, err := m.SaveDecision(t.Context(), session.DecisionUpdate{Record: session.Record{
				ID: idOf(i), Opened: opened, Decision: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, Expires: now.Add(time.Hour),
			}})
			must(t, err)
			must(t, m.RevokeSession(t.Context(), idOf(i), time.Time{}))
			want := now.Truncate(time.Second)
			if opened.After(want) {
				want = opened
			}
			if got := m.lastRevoked(idOf(i)); !got.Equal(want) {
				t.Errorf("opened %v from now: revoked until %v from now, want %v", opened.Sub(now), got.Sub(now), want.Sub(now))
			}
			must(t, m.RevokeSession(t.Context(), idOf(i), opened.Add(-time.Hour)))
			if got := m.lastRevoked(idOf(i)); !got.Equal(want) {
				t.Errorf("an older revocation set it back to %v from now", got.Sub(now))
			}
		}
	})
}

func TestLeaseWaiters(t *testing.T) {
	t.Parallel()
	var w leaseWaiters
	w.notify(idOf(1)) // nobody waits
	first, removeFirst := w.add(idOf(1))
	second, removeSecond := w.add(idOf(1))
	other, removeOther := w.add(idOf(2))
	for range 2 {
		w.notify(idOf(1))
	}
	if len(first) != 1 || len(second) != 1 || len(other) != 0 {
		t.Errorf("woke %d, %d and %d of another session; want the two that wait, once", len(first), len(second), len(other))
	}
	removeFirst()
	<-second
	w.notify(idOf(1))
	if len(first) != 1 || len(second) != 1 {
		t.Error("one that left is woken, or the other one is not")
	}
	removeSecond()
	removeOther()
	if len(w.waiting) != 0 {
		t.Errorf("remembers %v", w.waiting)
	}
}

func newBubbleMemory(t *testing.T) *Memory {
	t.Helper()
	m, err := NewMemory(MemoryConfig{MaxSessions: 1000}, time.Hour, testRules)
	must(t, err)
	return m
}

// TestMemory_AcquireLease_Waits returns what the holder of the lease saves as soon as it does, and takes the lease when the
// time to wait is over.
func TestMemory_AcquireLease_Waits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		saved session.Record // after a second; without an id: nothing is saved
		took  time.Duration
		want  backends.Verdict
	}{
		"a decision":              {allowedRecord(1, openedAgo(1)), time.Second, backends.Allowed},
		"a release":               {session.Record{ID: idOf(1)}, time.Second, backends.Pending},
		"nothing":                 {session.Record{}, 10 * time.Second, backends.Pending},
		"a fallback, by no lease": {fallbackRecord(1, openedAgo(1)), 10 * time.Second, backends.Allowed},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newBubbleMemory(t)
			defer m.Close()
			ctx, q := t.Context(), session.LeaseRequest{ID: idOf(1), Lease: time.Hour, Wait: 10 * time.Second, KnownRevision: 1}
			first, err := m.AcquireLease(ctx, q)
			if must(t, err); first.Revision == 0 {
				t.Fatalf("%s: no lease", name)
			}
			began := time.Now()
			go func() {
				time.Sleep(time.Second)
				if r := test.saved; !r.ID.IsZero() {
					r.Expires = time.Now().Add(time.Hour)
					if r.Decision.Source != backends.FromFailOpen {
						r.Revision = first.Revision
					}
					_, err := m.SaveDecision(ctx, session.DecisionUpdate{Record: r})
					must(t, err)
				}
			}()
			got, err := m.AcquireLease(ctx, q)
			must(t, err)
			if took := time.Since(began); took != test.took || got.Record.Decision.Verdict != test.want {
				t.Errorf("%s: got %+v after %v, want %v after %v", name, got, took, test.want, test.took)
			}
			if isAnswer := test.want == backends.Allowed && test.took < q.Wait; (got.Revision > first.Revision) == isAnswer {
				t.Errorf("%s: lease %d after lease %d", name, got.Revision, first.Revision)
			}
		})
	}
}

// TestMemory_SetEvicted_Unknown marks no session of which nothing is known: one that opens later may play.
func TestMemory_SetEvicted_Unknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newBubbleMemory(t)
		defer m.Close()
		ctx := t.Context()
		_, err := m.AcquireLease(ctx, session.LeaseRequest{ID: idOf(2), Lease: time.Hour}) // it is being opened
		must(t, err)
		for i, want := range map[int]bool{1: false, 2: true} {
			must(t, m.SetEvicted(ctx, idOf(i), true))
			_, err := m.SaveDecision(ctx, session.DecisionUpdate{Record: allowedRecord(i, openedAgo(1))})
			must(t, err)
			got, err := m.AcquireLease(ctx, session.LeaseRequest{ID: idOf(i)})
			if must(t, err); got.Record.IsEvicted != want {
				t.Errorf("session %d: evicted %t, want %t", i, got.Record.IsEvicted, want)
			}
		}
	})
}

// TestMemory_ExpireIdle_Limited closes the idle ones of many sessions, a few at a time.
func TestMemory_ExpireIdle_Limited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newBubbleMemory(t)
		defer m.Close()
		ctx, began := t.Context(), time.Now()
		for i := range 100 { // all in one bucket; every other one is idle
			lastSeen := began.Add(time.Duration(i%2) * time.Hour)
			_, err := m.RecordHeartbeats(ctx, []session.Heartbeat{{ID: backends.SessionID{15: byte(i + 1)}, LastSeen: lastSeen}})
			must(t, err)
		}
		time.Sleep(time.Minute)
		for call, want := range []int{20, 20, 10, 0} {
			closed, err := m.ExpireIdle(ctx, time.Minute, 20)
			if must(t, err); len(closed) != want {
				t.Errorf("call %d: closed %d, want %d", call, len(closed), want)
			}
			for _, c := range closed {
				if c.Record.ID[15]%2 == 0 || !c.Since.Equal(began) || !c.LastSeen.Equal(began) {
					t.Errorf("closed %+v, want one that was seen at the start alone", c)
				}
			}
		}
	})
}

// endOnNode stores what a node knows of a session that leaves it, as the actors do.
func endOnNode(t *testing.T, m *Memory, i int) {
	t.Helper()
	ctx, r := t.Context(), allowedRecord(i, openedAgo(1))
	r.Request = &backends.Request{Channel: "a001"}
	_, err := m.SaveDecision(ctx, session.DecisionUpdate{Record: r})
	must(t, err)
	must(t, m.AddCounters(ctx, r.ID, session.Counters{Requests: 1, Bytes: 1000}))
	_, err = m.RecordHeartbeats(ctx, []session.Heartbeat{{ID: r.ID, LastSeen: time.Now()}})
	must(t, err)
}

// TestMemory_MaxSessions bounds what is remembered of sessions that have ended, and of revoked tickets.
func TestMemory_MaxSessions(t *testing.T) {
	t.Parallel()
	const limit, ended = 500, 3000
	m, err := NewMemory(MemoryConfig{MaxSessions: limit}, time.Hour, testRules)
	must(t, err)
	defer m.Close()
	for i := range ended {
		endOnNode(t, m, i)
		must(t, m.RevokeSession(t.Context(), idOf(i), openedAgo(1)))
		must(t, m.RevokeSession(t.Context(), idOf(i), time.Time{}))
	}
	closed, err := m.ExpireIdle(t.Context(), -time.Hour, ended)
	if must(t, err); len(closed) != ended {
		t.Errorf("closed %d sessions, want %d", len(closed), ended)
	}
	m.entries.CleanUp()
	m.tombstones.CleanUp()
	if entries, tombstones := m.entries.EstimatedSize(), m.tombstones.EstimatedSize(); entries > limit || tombstones > limit {
		t.Errorf("remembers %d sessions and %d revoked tickets, want at most %d", entries, tombstones, limit)
	}
}

// TestMemory_ExpireIdle_Evicted records what the cache has given up before the session was closed, also of a viewer who came back and
// was idle again.
func TestMemory_ExpireIdle_Evicted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ended, returned = 100, 50
		m, err := NewMemory(MemoryConfig{MaxSessions: 10}, time.Hour, testRules)
		must(t, err)
		defer m.Close()
		for i := range ended {
			_, err := m.SaveDecision(t.Context(), session.DecisionUpdate{Record: allowedRecord(i, openedAgo(1))}) // as of a user with a limit
			must(t, err)
			m.entries.CleanUp()
			endOnNode(t, m, i)
		}
		m.entries.CleanUp()
		for i := range returned {
			_, err := m.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(i)})
			must(t, err)
		}
		m.entries.CleanUp()
		time.Sleep(time.Minute)
		closed, err := m.ExpireIdle(t.Context(), time.Minute, ended)
		if must(t, err); len(closed) != ended-returned {
			t.Errorf("closed %d sessions, want those without the %d whose viewers are back", len(closed), returned)
		}
		for i := range returned {
			endOnNode(t, m, i)
		}
		time.Sleep(time.Minute)
		again, err := m.ExpireIdle(t.Context(), time.Minute, ended)
		if must(t, err); len(again) != returned {
			t.Errorf("closed %d sessions of viewers who were back, want %d", len(again), returned)
		}
		for _, c := range append(closed, again...) {
			if c.Record.Request == nil || c.Counters.Bytes < 1000 {
				t.Fatalf("recorded %+v, want the request and the bytes", c)
			}
		}
		for _, c := range again {
			if c.Counters.Requests != 2 {
				t.Errorf("recorded %d requests of a viewer who was back, want both", c.Counters.Requests)
			}
		}
		for i := range m.shards {
			if n := len(m.shards[i].unrecorded); n > 0 {
				t.Errorf("holds %d sessions that are recorded", n)
			}
		}
	})
}
