package cluster

import (
	"encoding/binary"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// reviveFor is how long these tests' tickets may be revived.
const reviveFor = 20 * time.Minute

// evening is when the sessions of these tests opened.
func evening(d time.Duration) time.Time {
	return time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC).Add(d)
}

func idOf(i int) (id backends.SessionID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)+1)
	return id
}

// recordOf is what an idle session leaves behind that opened so long after the evening began.
func recordOf(i int, opened time.Duration) backends.Record {
	return backends.Record{
		ID: idOf(i), Opened: evening(opened), Key: "a", Check: 2, Expires: evening(opened + time.Hour),
		Decision: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, User: "Ann"},
		Facts:    &backends.Request{Session: idOf(i), Channel: "a001"},
	}
}

func newMemory(t testing.TB, records int) *Memory {
	t.Helper()
	m, err := NewMemory(MemoryConfig{MaxRecords: records}, reviveFor)
	if err != nil {
		t.Fatalf("make memory: %v", err)
	}
	return m
}

// does is one step of a story.
type does func(t *testing.T, m *Memory)

func saves(r backends.Record) does {
	return func(t *testing.T, m *Memory) {
		t.Helper()
		if err := m.Save(t.Context(), r); err != nil {
			t.Errorf("save: %v", err)
		}
	}
}

func buries(i int, opened time.Duration) does {
	return func(t *testing.T, m *Memory) {
		t.Helper()
		if err := m.Bury(t.Context(), idOf(i), evening(opened)); err != nil {
			t.Errorf("bury: %v", err)
		}
	}
}

func buried(r backends.Record, at time.Duration) *backends.Record {
	r.Buried = evening(at)
	return &r
}

func loads(t *testing.T, m *Memory, i int) *backends.Record {
	t.Helper()
	r, found, err := m.Load(t.Context(), idOf(i))
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	if !found {
		if r != (backends.Record{}) {
			t.Errorf("not found, but not empty: %+v", r)
		}
		return nil
	}
	return &r
}

func sameRecord(t *testing.T, got, want *backends.Record) {
	t.Helper()
	facts := cmp.Comparer(func(a, b *backends.Request) bool { return a == b || a != nil && b != nil && a.Channel == b.Channel })
	if diff := cmp.Diff(want, got, facts); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestMemoryRemembersAndBuries(t *testing.T) {
	t.Parallel()
	const h = time.Hour
	only := func(at time.Duration) *backends.Record {
		return &backends.Record{ID: idOf(1), Buried: evening(at)}
	}
	stories := map[string]struct {
		steps []does
		want  *backends.Record // of session 1
	}{
		"nothing is known of a stranger":             {nil, nil},
		"what was saved is known":                    {[]does{saves(recordOf(1, 0))}, new(recordOf(1, 0))},
		"what was saved last counts":                 {[]does{saves(recordOf(1, 0)), saves(recordOf(1, h))}, new(recordOf(1, h))},
		"another session's record is another's":      {[]does{saves(recordOf(2, 0))}, nil},
		"a burial forgets what the session stood on": {[]does{saves(recordOf(1, 0)), buries(1, 0)}, only(0)},
		"a burial needs no record":                   {[]does{buries(1, 0)}, only(0)},
		"a burial spares a session that opened later": {
			[]does{saves(recordOf(1, h)), buries(1, 0)}, buried(recordOf(1, h), 0),
		},
		"a session reopened after a burial is known with it": {
			[]does{buries(1, 0), saves(recordOf(1, h))}, buried(recordOf(1, h), 0),
		},
		"the later burial counts, whichever came first":      {[]does{buries(1, h), buries(1, 0)}, only(h)},
		"the later burial counts, also if it came last":      {[]does{buries(1, 0), buries(1, h)}, only(h)},
		"a burial of another session buries another session": {[]does{saves(recordOf(1, 0)), buries(2, h)}, new(recordOf(1, 0))},
	}
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t, 100)
			defer m.Close()
			for _, step := range story.steps {
				step(t, m)
			}
			sameRecord(t, loads(t, m, 1), story.want)
		})
	}
}

func TestMemoryForgetsInTime(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		steps   []does
		again   does // a minute before the end
		want    *backends.Record
		atLast  *backends.Record // one second before reviveFor is over since the first steps
		forgets time.Duration    // when nothing is known any more
	}{
		"a record": {
			steps: []does{saves(recordOf(1, 0))}, atLast: new(recordOf(1, 0)), forgets: reviveFor + time.Second,
		},
		"a burial outlives every ticket that it refuses": {
			steps: []does{buries(1, 0)}, atLast: buried(backends.Record{ID: idOf(1)}, 0), forgets: reviveFor + time.Second,
		},
		"a record that is saved again lives on": {
			steps: []does{saves(recordOf(1, 0))}, again: saves(recordOf(1, 0)), atLast: new(recordOf(1, 0)),
			want: new(recordOf(1, 0)), forgets: 2 * reviveFor,
		},
		"a burial that is repeated lives on": {
			steps: []does{buries(1, 0)}, again: buries(1, 0), atLast: buried(backends.Record{ID: idOf(1)}, 0),
			want: buried(backends.Record{ID: idOf(1)}, 0), forgets: 2 * reviveFor,
		},
		"a burial outlives the record of before": {
			steps: []does{saves(recordOf(1, time.Hour))}, again: buries(1, 0), atLast: buried(recordOf(1, time.Hour), 0),
			want: buried(backends.Record{ID: idOf(1)}, 0), forgets: 2 * reviveFor,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t, 100)
				defer m.Close()
				for _, step := range c.steps {
					step(t, m)
				}
				time.Sleep(reviveFor - time.Minute)
				if c.again != nil {
					c.again(t, m)
				}
				time.Sleep(time.Minute - time.Second)
				sameRecord(t, loads(t, m, 1), c.atLast)
				time.Sleep(2 * time.Second)
				sameRecord(t, loads(t, m, 1), c.want)
				time.Sleep(c.forgets - reviveFor)
				sameRecord(t, loads(t, m, 1), nil)
			})
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const bound, many = 100, 10_000
	m := newMemory(t, bound)
	defer m.Close()
	for i := range many {
		saves(recordOf(i, 0))(t, m)
		buries(many+i, 0)(t, m)
	}
	m.records.CleanUp()
	m.burials.CleanUp()
	records, burials := 0, 0
	for i := range many {
		if loads(t, m, i) != nil {
			records++
		}
		if loads(t, m, many+i) != nil {
			burials++
		}
	}
	for what, got := range map[string]int{"records": records, "burials": burials} {
		if got == 0 || got > bound {
			t.Errorf("%d %s remembered, want 1 to %d", got, what, bound)
		}
	}
}

func TestAFloodOfIdleSessionsPushesOutNoBurial(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 10)
	defer m.Close()
	buries(1, 0)(t, m)
	for i := range 1000 {
		saves(recordOf(100+i, 0))(t, m)
	}
	m.records.CleanUp()
	m.burials.CleanUp()
	if loads(t, m, 1) == nil {
		t.Error("the burial was pushed out by sessions that went idle")
	}
}

func TestMemoryIsSafeForAll(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 1000)
	defer m.Close()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 500 {
				saves(recordOf(i%50, 0))(t, m)
				if i%50 < 25 {
					buries(i%50, time.Duration(i)*time.Second)(t, m)
				}
				loads(t, m, i%50)
			}
		})
	}
	all.Wait()
	for i := range 25 {
		// However they met, the latest burial of each is the one that holds.
		if r := loads(t, m, i); r == nil || !r.Buried.Equal(evening(time.Duration(450+i)*time.Second)) {
			t.Errorf("session %d is known as %+v, want the latest burial", i, r)
		}
	}
}

func TestMemoryConfigNamesWhatCannotWork(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		config MemoryConfig
		want   string
	}{
		"the defaults work":           {DefaultMemoryConfig(), ""},
		"one record is few, but some": {MemoryConfig{MaxRecords: 1}, ""},
		"no records":                  {MemoryConfig{}, "max_records: 0 is too small; want at least 1"},
		"less than none":              {MemoryConfig{MaxRecords: -1}, "max_records: -1 is too small; want at least 1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := c.config.Validate(); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("error %q, want %q", got, c.want)
			}
		})
	}
}

// BenchmarkMemory is what an idle session and its return cost.
func BenchmarkMemory(b *testing.B) {
	m := newMemory(b, 500_000)
	defer m.Close()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := recordOf(i%1_000_000, 0)
		_ = m.Save(b.Context(), r)
		if _, _, err := m.Load(b.Context(), r.ID); err != nil {
			b.Fatal(err)
		}
	}
}
