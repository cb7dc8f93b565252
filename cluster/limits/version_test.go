package limits

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
)

// counted returns a set that counts so.
func counted(epoch, writes, restored int64) storedSet {
	return storedSet{epoch: epoch, writes: writes, restored: restored}
}

// TestStoredSet_Lacks compares what the store holds with what a node knows.
func TestStoredSet_Lacks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stored, known storedSet
		want          bool
	}{
		"as known":                               {counted(1, 7, 0), counted(1, 7, 0), false},
		"newer":                                  {counted(1, 8, 0), counted(1, 7, 0), false},
		"its last writes were lost":              {counted(1, 6, 0), counted(1, 7, 0), true},
		"begun anew by a node that knew nothing": {counted(2, 9, 0), counted(1, 7, 0), true},
		"restored by a node that knew less":      {counted(2, 9, 6), counted(1, 7, 0), true},
		"restored by a node that knew as much":   {counted(2, 9, 7), counted(1, 7, 0), false},
		"restored by a node that knew more":      {counted(2, 9, 8), counted(1, 7, 0), false},
		"the node knows nothing":                 {counted(2, 9, 0), counted(0, 0, 0), false},
	} {
		if got := tc.stored.lacks(&tc.known); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestStoredSet_Next counts writes over a loss of data.
func TestStoredSet_Next(t *testing.T) {
	t.Parallel()
	set := storedSet{}
	for _, step := range []struct {
		version   int64
		isMissing bool
		want      storedSet
	}{
		{11, true, counted(11, 1, 0)},
		{12, false, counted(11, 2, 0)},
		{13, true, counted(13, 3, 2)},
		{14, false, counted(13, 4, 2)},
	} {
		if set = set.next(nil, step.version, step.isMissing); !cmp.Equal(set, step.want, cmp.AllowUnexported(storedSet{})) {
			t.Errorf("version %d: %+v, want %+v", step.version, set, step.want)
		}
	}
}

// TestShared_Merge_Counts: a set that a node restored is no loss to those who knew as much.
func TestShared_Merge_Counts(t *testing.T) {
	t.Parallel()
	h := newTestShared(new(fakeStore), session.EvictOldest)
	for known, want := range map[int64]storedSet{9: counted(13, 9, 9), 3: counted(13, 4, 3)} {
		u, stored := sharedUser{known: counted(24, known, 0)}, counted(13, 4, 2)
		got, _, err := h.merge(&u, versioned{"v", stored.encode()}, testStart)
		if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(storedSet{})) {
			t.Errorf("by a node that knew %d writes: %+v, %v; want %+v", known, got, err, want)
		}
	}
}

// TestShared_StaleNode_UndoesNothing has a node learn nothing of the last changes before the store loses its data, and then
// restore what it knows, before or after the other node.
func TestShared_StaleNode_UndoesNothing(t *testing.T) {
	t.Parallel()
	for name, isStaleFirst := range map[string]bool{"it is first": true, "it is last": false} {
		f := &fakeStore{ms: testStart}
		a, stale := newTestShared(f, session.EvictOldest), newTestShared(f, session.EvictOldest)
		var got session.LimitResult
		apply := func(h *shared, reports ...report) {
			got = h.apply(context.Background(), "ann", reports)
		}
		one, two := plays(1, 100, 1), plays(2, 101, 1)
		for ; f.ms <= testStart+15_000; f.ms += 1000 {
			apply(a, one, two)
			apply(stale, one, two)
		}
		if got.States[0] != evicted || got.States[1] != active {
			t.Fatalf("%s: got %v, want the first one evicted", name, got.States)
		}
		apply(a, leaves(2))
		if apply(a, one); got.States[0] != active {
			t.Fatalf("%s: the first one is %v when the second one is gone", name, got.States[0])
		}
		f.current = versioned{}
		if isStaleFirst {
			restoreNow(stale)
		}
		apply(a, one)
		restoreNow(stale)
		if apply(a, one); got.States[0] != active {
			t.Errorf("%s: after the loss the first one is %v", name, got.States[0])
		}
	}
}

// TestShared_LastWritesLost_Restored has a replica take over that has not received the last writes.
func TestShared_LastWritesLost_Restored(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	h, other := newTestShared(f, session.EvictOldest), newTestShared(f, session.EvictOldest)
	one, two := plays(1, 100, 1), plays(2, 101, 1)
	before := f.current
	var got session.LimitResult
	for isEvicted := false; !isEvicted; f.ms += 1000 {
		before = f.current
		got = h.apply(t.Context(), "ann", []report{one, two})
		isEvicted = got.States[0] == evicted
	}
	f.current = before
	if got := other.apply(t.Context(), "ann", []report{plays(3, 100, 1)}); got.States[0] != active {
		t.Fatalf("got %+v", got)
	}
	f.current = before
	h.apply(t.Context(), "ann", []report{two})
	if set, err := decode(f.current.set); err != nil || set.streams[0].ID != one.ID || set.streams[0].State != evicted {
		t.Errorf("the set is %+v, %v; want the first one evicted", set, err)
	}
}

// TestStreamSet_RestoredWith puts what was reported since the loss into the set as it was known before.
func TestStreamSet_RestoredWith(t *testing.T) {
	t.Parallel()
	r := rules{LimitRules: testRules(session.EvictOldest)}
	const lost = testStart + 20_000
	known := stream{
		facts: plays(1, 100, 2).on("box").facts, LastSeen: testStart, ReportedAt: testStart, CountedSince: testStart - 60_000,
	}
	since := known
	since.LastSeen, since.ReportedAt, since.CountedSince, since.MaxStreams = lost, lost, lost, 1
	for name, tc := range map[string]struct {
		change      func(known, since *stream)
		want        session.StreamState
		wantSince   int64
		wantMost    int
		deniedAgain int
	}{
		"it plays on":                           {func(*stream, *stream) {}, active, testStart - 60_000, 1, 0},
		"it had a break":                        {func(_, s *stream) { s.CountedSince = testStart + 26_001; s.LastSeen = s.CountedSince }, active, testStart + 26_001, 1, 0},
		"it had none":                           {func(_, s *stream) { s.CountedSince = testStart + 26_000; s.LastSeen = s.CountedSince }, active, testStart - 60_000, 1, 0},
		"it was idle":                           {func(k, _ *stream) { k.CountedSince = 0 }, active, lost, 1, 0},
		"reported by a node that saw it before": {func(_, s *stream) { s.LastSeen = testStart - jitterMS - 1 }, active, testStart - 60_000, 2, 0},
		"evicted":                               {func(k, _ *stream) { k.State = evicted }, evicted, testStart - 60_000, 1, 1},
		"evicted, opened anew":                  {func(k, s *stream) { k.State, s.Opened = evicted, 101 }, evicted, testStart - 60_000, 1, 1},
		"evicted in both":                       {func(k, s *stream) { k.State, s.State = evicted, evicted }, evicted, testStart - 60_000, 1, 0},
		"superseded":                            {func(k, _ *stream) { k.State = superseded }, superseded, testStart - 60_000, 1, 1},
		"superseded, opened anew":               {func(k, s *stream) { k.State, s.Opened = superseded, 101 }, active, lost, 1, 0},
		"evicted since, which another loss may have caused": {func(_, s *stream) { s.State = evicted }, active, testStart - 60_000, 1, 0},
	} {
		k, s := known, since
		tc.change(&k, &s)
		set, again := streamSet{k, {facts: plays(2, 100, 2).facts}}.restoredWith(streamSet{{facts: plays(3, 100, 2).facts}, s}, lost, &r)
		last := map[bool]int{false: 0, true: 2}[s.Opened > k.Opened]
		got := set[last]
		if len(set) != 3 || got.ID != idOf(1) || got.State != tc.want || got.CountedSince != tc.wantSince || int(got.MaxStreams) != tc.wantMost ||
			got.Opened != s.Opened || len(again) != tc.deniedAgain {
			t.Errorf("%s: %+v, denied again %+v", name, set, again)
		}
	}
}
