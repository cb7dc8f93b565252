package limits

import (
	"testing"
	"time"

	"usher/actors/session"
)

// TestStreamSet_Apply_Exceeded tells once that the limit is exceeded, and has the nodes report often while it is.
func TestStreamSet_Apply_Exceeded(t *testing.T) {
	t.Parallel()
	one, two := plays(1, 100, 1), plays(2, 101, 1)
	for name, tc := range map[string]struct {
		rules  rules
		second []report // after a call with one
		want   bool
	}{
		"one":                        {rules{LimitRules: testRules(session.EvictOldest)}, []report{one}, false},
		"two":                        {rules{LimitRules: testRules(session.EvictOldest)}, []report{one, two}, true},
		"two where one allows three": {rules{LimitRules: testRules(session.EvictOldest)}, []report{one, plays(2, 101, 3)}, true},
		"two, the other allows more": {rules{LimitRules: testRules(session.EvictOldest)}, []report{plays(1, 100, 3), two}, true},
		"two that allow two":         {rules{LimitRules: testRules(session.EvictOldest)}, []report{plays(1, 100, 2), plays(2, 101, 2)}, false},
		"one at two addresses":       {rules{LimitRules: testRules(session.EvictOldest)}, []report{one, two.of(1).overIPv6()}, false},
		"addresses, which are bound": {rules{LimitRules: testRules(session.EvictOldest), isBound: true}, []report{one, two}, false},
	} {
		set, got := streamSet(nil).apply([]report{one}, testStart, &tc.rules)
		if got.isExceeded || got.RecheckIn != 0 {
			t.Errorf("%s: one stream alone exceeds: %+v", name, got)
		}
		for call, isNews := range []bool{true, false} {
			var wantRecheck time.Duration
			if tc.want {
				wantRecheck = reportInterval
			}
			set, got = set.apply(tc.second, testStart+1000*int64(call+1), &tc.rules)
			if got.isExceeded != (tc.want && isNews) || got.RecheckIn != wantRecheck {
				t.Errorf("%s: call %d: exceeded %v, reported again in %v; want %v, %v", name, call, got.isExceeded, got.RecheckIn, tc.want && isNews, wantRecheck)
			}
		}
	}
}

// TestStreamSet_Apply_TTL keeps a set twice as long as its longest-lived stream, which is forgotten at that very moment.
func TestStreamSet_Apply_TTL(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		p     report
		state session.StreamState
		want  time.Duration
	}{
		"idle timeout":                         {plays(1, 100, 1), active, time.Minute},
		"a heartbeat and a long zap timeout":   {plays(1, 100, 1).zapsAfter(50 * time.Second), active, 70 * time.Second},
		"as long as an eviction is remembered": {plays(1, 100, 1).zapsAfter(50 * time.Second), evicted, time.Minute},
	} {
		r := rules{LimitRules: testRules(session.EvictOldest)}
		set, _ := streamSet(nil).apply([]report{tc.p}, testStart, &r)
		set[0].State = tc.state
		last := testStart + tc.want.Milliseconds()
		if set, got := set.apply(nil, testStart, &r); len(set) != 1 || got.ttl != 2*tc.want {
			t.Errorf("%s: %d streams, kept for %v; want one for %v", name, len(set), got.ttl, 2*tc.want)
		}
		if set, _ := set.apply(nil, last-1, &r); len(set) != 1 {
			t.Errorf("%s: forgotten before its time", name)
		}
		if set, _ := set.apply(nil, last, &r); len(set) != 0 {
			t.Errorf("%s: not forgotten in time", name)
		}
	}
}

// TestStreamSet_Apply_Report applies one report to a stream that was seen now.
func TestStreamSet_Apply_Report(t *testing.T) {
	t.Parallel()
	const earlier = testStart - 60_000
	for name, tc := range map[string]struct {
		state session.StreamState
		p     report
		want  session.StreamState
		// wantMost and wantSince are those of the stream afterwards.
		wantMost  int
		wantSince int64
	}{
		"as before":                              {active, plays(1, 100, 2), active, 2, earlier},
		"opened anew":                            {active, plays(1, 101, 2), active, 2, earlier},
		"a higher limit":                         {active, plays(1, 100, 3), active, 3, earlier},
		"a lower limit has its own grace period": {active, plays(1, 100, 1), active, 1, testStart},
		"by a node that saw it as late":          {active, plays(1, 100, 3).silentFor(time.Second), active, 3, earlier},
		"by a node that saw it before":           {active, plays(1, 100, 3).silentFor(time.Second + 1e6), active, 2, earlier},
		"superseded, as old":                     {superseded, plays(1, 100, 2), superseded, 2, 0},
		"superseded, opened anew":                {superseded, plays(1, 101, 2), active, 2, testStart},
		"evicted, and asks":                      {evicted, plays(1, 100, 2).silentFor(6 * time.Second), active, 2, testStart},
		"evicted, and silent":                    {evicted, plays(1, 100, 2).silentFor(6*time.Second + 1e6), evicted, 2, 0},
	} {
		r := rules{LimitRules: testRules(session.EvictOldest)}
		p := plays(1, 100, 2)
		set := streamSet{{
			facts: p.facts, LastSeen: testStart, ReportedAt: testStart, CountedSince: earlier, State: tc.state,
		}}
		set, got := set.apply([]report{tc.p}, testStart, &r)
		if got.States[0] != tc.want || int(set[0].MaxStreams) != tc.wantMost || set[0].CountedSince != tc.wantSince {
			t.Errorf("%s: %v, of %d, counted since %d; want %v, %d, %d", name, got.States[0], set[0].MaxStreams, set[0].CountedSince-testStart,
				tc.want, tc.wantMost, tc.wantSince-testStart)
		}
	}
}

func TestStreamSet_Apply_NewStream(t *testing.T) {
	t.Parallel()
	for silence, want := range map[time.Duration]int{time.Minute - time.Millisecond: 1, time.Minute: 0} {
		r := rules{LimitRules: testRules(session.EvictOldest)}
		if set, _ := streamSet(nil).apply([]report{plays(1, 100, 1).silentFor(silence)}, testStart, &r); len(set) != want {
			t.Errorf("silent for %v: %d streams, want %d", silence, len(set), want)
		}
	}
}

// TestStreamSet_Apply_Room has a new stream come to a set in which one is in some state. It makes room only if the set is
// full and that one counts for nothing.
func TestStreamSet_Apply_Room(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		state     session.StreamState
		isPlaying bool
		makesRoom bool
	}{
		"superseded":          {superseded, true, true},
		"active and idle":     {active, false, true},
		"active and counting": {active, true, false},
		"evicted":             {evicted, true, false},
		"evicted and idle":    {evicted, false, false},
	} {
		for _, others := range []int{maxTracked - 2, maxTracked - 1} {
			r := rules{LimitRules: testRules(session.EvictOldest)}
			var set streamSet
			for i := range others + 1 {
				set = append(set, stream{
					facts: plays(i, 100, maxTracked).facts, LastSeen: testStart, ReportedAt: testStart, CountedSince: testStart,
				})
			}
			set[0].State, set[0].IsPlaying = tc.state, tc.isPlaying
			set, got := set.apply([]report{plays(maxTracked, 101, 2*maxTracked)}, testStart, &r)
			isFull := others == maxTracked-1
			if hasOld := set[0].ID == idOf(0); hasOld != (!isFull || !tc.makesRoom) {
				t.Errorf("%s beside %d: kept %v", name, others, hasOld)
			}
			if got.isFull != (isFull && !tc.makesRoom) {
				t.Errorf("%s beside %d: full %v", name, others, got.isFull)
			}
		}
	}
}

// TestStreamSet_Apply_SameDevice has a device on one channel reported on another.
func TestStreamSet_Apply_SameDevice(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opened    int64 // that of the other is 100
		isJoin    bool
		silence   time.Duration // that of the other is 500 ms
		wantOther session.StreamState
	}{
		"opened later":                             {101, false, 500 * ms, superseded},
		"opened later, asked for before":           {101, false, 600 * ms, superseded},
		"opened before":                            {99, false, 500 * ms, active},
		"opened before, joined now":                {99, true, 0, active},
		"in the same second":                       {100, false, 500 * ms, active},
		"in the same second, joining":              {100, true, 500 * ms, superseded},
		"in the same second, asked for later":      {100, false, 499 * ms, superseded},
		"in the same second, joining late":         {100, true, 501 * ms, active},
		"in the same second, joining and silenced": {100, true, 7 * s, active},
	} {
		r := rules{LimitRules: testRules(session.EvictOldest)}
		set, _ := streamSet(nil).apply([]report{plays(1, 100, 2).on("box").silentFor(500 * ms)}, testStart, &r)
		p := plays(2, tc.opened, 2).on("box").silentFor(tc.silence)
		p.isJoin = tc.isJoin
		set, got := set.apply([]report{p}, testStart, &r)
		if set[0].State != tc.wantOther || (got.States[0] == active) == (tc.wantOther == active) {
			t.Errorf("%s: %v, and the other is %v; want that %v", name, got.States[0], set[0].State, tc.wantOther)
		}
	}
}

// TestStreamSet_Apply_SameDeviceAtTwoAddresses has a device change the channel that it plays at two addresses.
func TestStreamSet_Apply_SameDeviceAtTwoAddresses(t *testing.T) {
	t.Parallel()
	r := rules{LimitRules: testRules(session.EvictOldest)}
	set, _ := streamSet(nil).apply([]report{plays(1, 100, 2).on("box"), plays(2, 100, 2).of(1).overIPv6().on("box")}, testStart, &r)
	set, _ = set.apply([]report{plays(3, 101, 2).on("box")}, testStart, &r)
	if set[0].State != superseded || set[1].State != superseded || set[2].State != active {
		t.Errorf("got %+v, want the first two superseded by the third", set)
	}
}

// TestStreamSet_Apply_Bound_EvictsNone has more addresses play on than the limit allows, as when nodes learn of them late.
func TestStreamSet_Apply_Bound_EvictsNone(t *testing.T) {
	t.Parallel()
	r := rules{LimitRules: testRules(session.EvictOldest), isBound: true}
	var set streamSet
	var got result
	for second := range int64(60) {
		set, got = set.apply([]report{plays(1, 100, 1), plays(2, 101, 1)}, testStart+1000*second, &r)
		if got.States[0] != active || got.States[1] != active || len(got.Evicted) != 0 {
			t.Fatalf("after %d s: %v, evicted %+v; want none evicted", second, got.States, got.Evicted)
		}
	}
}
