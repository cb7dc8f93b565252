package limits

import (
	"context"
	"testing"

	"usher/actors/session"
)

// TestSetVersion_Lacks compares what the store holds with what a node knows.
func TestSetVersion_Lacks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stored, known setVersion
		want          bool
	}{
		"as known":                               {setVersion{"a", 7, 0}, setVersion{"a", 7, 0}, false},
		"newer":                                  {setVersion{"a", 8, 0}, setVersion{"a", 7, 0}, false},
		"its last writes were lost":              {setVersion{"a", 6, 0}, setVersion{"a", 7, 0}, true},
		"begun anew by a node that knew nothing": {setVersion{"b", 9, 0}, setVersion{"a", 7, 0}, true},
		"restored by a node that knew less":      {setVersion{"b", 9, 6}, setVersion{"a", 7, 0}, true},
		"restored by a node that knew as much":   {setVersion{"b", 9, 7}, setVersion{"a", 7, 0}, false},
		"restored by a node that knew more":      {setVersion{"b", 9, 8}, setVersion{"a", 7, 0}, false},
		"the node knows nothing":                 {setVersion{"b", 9, 0}, setVersion{}, false},
		"another program's":                      {setVersion{}, setVersion{"a", 7, 0}, false},
	} {
		if got := tc.stored.lacks(tc.known); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestSetVersion_Encode_Golden: all versions of the program read a set's version alike, as their nodes share it.
func TestSetVersion_Encode_Golden(t *testing.T) {
	t.Parallel()
	v := setVersion{epoch: "e", writes: 12, restored: 3}
	if got := v.encode("n"); got != "e 12 3 n" || parseVersion(got) != v {
		t.Errorf("encoded as %q, decoded as %+v", got, parseVersion(got))
	}
	for _, other := range []string{"", "e", "e 1 2", "e -1 2 n", "e 1 x n", "e 1 2 n n"} {
		if got := parseVersion(other); got != (setVersion{}) {
			t.Errorf("%q is read as %+v", other, got)
		}
	}
}

// TestSetVersion_Next counts writes over a loss of data.
func TestSetVersion_Next(t *testing.T) {
	t.Parallel()
	v := setVersion{}
	for _, step := range []struct {
		name      string
		isMissing bool
		want      setVersion
	}{
		{"a", true, setVersion{"a", 1, 0}},
		{"b", false, setVersion{"a", 2, 0}},
		{"c", true, setVersion{"c", 3, 2}},
		{"d", false, setVersion{"c", 4, 2}},
	} {
		if v = v.next(step.name, step.isMissing); v != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, v, step.want)
		}
	}
	if got, want := v.restoredFrom(setVersion{"x", 9, 0}), (setVersion{"c", 9, 9}); got != want {
		t.Errorf("restored: %+v, want %+v", got, want)
	}
	if got, want := v.restoredFrom(setVersion{"x", 3, 0}), (setVersion{"c", 4, 3}); got != want {
		t.Errorf("restored by a node that knew less: %+v, want %+v", got, want)
	}
}

// TestShared_StaleNode_UndoesNothing has a node learn nothing of the last changes before the store loses its data, and then
// restore what it knows, before or after the other node.
func TestShared_StaleNode_UndoesNothing(t *testing.T) {
	t.Parallel()
	for name, isStaleFirst := range map[string]bool{"it is first": true, "it is last": false} {
		f := &fakeStore{clock: testStart}
		a, stale := newShared(f, session.EvictOldest, 0), newShared(f, session.EvictOldest, 1)
		var got session.LimitResult
		apply := func(h *shared, reports ...report) {
			var err error
			if got, err = h.apply(context.Background(), "ann", reports); err != nil {
				t.Fatal(err)
			}
		}
		one, two := plays(1, 100, 1), plays(2, 101, 1)
		for ; f.clock <= testStart+15_000; f.clock += 1000 {
			apply(a, one, two)
			apply(stale, one, two)
		}
		if got.States[0] != evicted || got.States[1] != active {
			t.Fatalf("%s: got %v, want the first one evicted", name, got.States)
		}
		apply(a, report{isLeaving: true, id: two.id})
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
	f := &fakeStore{clock: testStart}
	h, other := newShared(f, session.EvictOldest, 0), newShared(f, session.EvictOldest, 1)
	one, two := plays(1, 100, 1), plays(2, 101, 1)
	before := f.current
	var got session.LimitResult
	for isEvicted := false; !isEvicted; f.clock += 1000 {
		before = f.current
		var err error
		if got, err = h.apply(t.Context(), "ann", []report{one, two}); err != nil {
			t.Fatal(err)
		}
		isEvicted = got.States[0] == evicted
	}
	f.current = before
	if got, err := other.apply(t.Context(), "ann", []report{plays(3, 100, 1)}); err != nil || got.States[0] != active {
		t.Fatalf("got %+v, %v", got, err)
	}
	f.current = before
	if _, err := h.apply(t.Context(), "ann", []report{two}); err != nil {
		t.Fatal(err)
	}
	if set, err := decode([]byte(f.current.set)); err != nil || set[0].id != one.id || set[0].state != evicted {
		t.Errorf("the set is %+v, %v; want the first one evicted", set, err)
	}
}

// TestStreamSet_RestoredWith puts what was reported since the loss into the set as it was known before.
func TestStreamSet_RestoredWith(t *testing.T) {
	t.Parallel()
	r := rulesInMillis(testRules(session.EvictOldest))
	const lost = testStart + 20_000
	known := stream{
		id: idOf(1), group: idOf(1), opened: 100, lastSeen: testStart, reportedAt: testStart, countedSince: testStart - 60_000,
		zapTimeout: 6000, maxStreams: 2, isPlaying: true, device: "box",
	}
	since := known
	since.lastSeen, since.reportedAt, since.countedSince, since.maxStreams = lost, lost, lost, 1
	for name, tc := range map[string]struct {
		change      func(known, since *stream)
		want        session.StreamState
		wantSince   int64
		wantMost    int
		deniedAgain int
	}{
		"it plays on":                           {func(*stream, *stream) {}, active, testStart - 60_000, 1, 0},
		"it had a break":                        {func(_, s *stream) { s.countedSince = testStart + 26_001; s.lastSeen = s.countedSince }, active, testStart + 26_001, 1, 0},
		"it had none":                           {func(_, s *stream) { s.countedSince = testStart + 26_000; s.lastSeen = s.countedSince }, active, testStart - 60_000, 1, 0},
		"it was idle":                           {func(k, _ *stream) { k.countedSince = 0 }, active, lost, 1, 0},
		"reported by a node that saw it before": {func(_, s *stream) { s.lastSeen = testStart - 1 }, active, testStart - 60_000, 2, 0},
		"evicted":                               {func(k, _ *stream) { k.state = evicted }, evicted, testStart - 60_000, 1, 1},
		"evicted, opened anew":                  {func(k, s *stream) { k.state, s.opened = evicted, 101 }, evicted, testStart - 60_000, 1, 1},
		"evicted in both":                       {func(k, s *stream) { k.state, s.state = evicted, evicted }, evicted, testStart - 60_000, 1, 0},
		"superseded":                            {func(k, _ *stream) { k.state = superseded }, superseded, testStart - 60_000, 1, 1},
		"superseded, opened anew":               {func(k, s *stream) { k.state, s.opened = superseded, 101 }, active, lost, 1, 0},
		"evicted since, which another loss may have caused": {func(_, s *stream) { s.state = evicted }, active, testStart - 60_000, 1, 0},
	} {
		k, s := known, since
		tc.change(&k, &s)
		set, again := streamSet{k, {id: idOf(2), opened: 100}}.restoredWith(streamSet{{id: idOf(3), opened: 100}, s}, lost, &r)
		last := map[bool]int{false: 0, true: 2}[s.opened > k.opened]
		got := set[last]
		if len(set) != 3 || got.id != idOf(1) || got.state != tc.want || got.countedSince != tc.wantSince || got.maxStreams != tc.wantMost ||
			got.opened != s.opened || len(again) != tc.deniedAgain {
			t.Errorf("%s: %+v, denied again %+v", name, set, again)
		}
	}
}
