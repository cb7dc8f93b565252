package limits

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends"
)

// testRules are the rules of these tests. With zap timeouts of 6 s the grace period is 14 s.
func testRules(p session.LimitPolicy) session.LimitRules {
	return session.LimitRules{
		Policy: p, GracePeriod: 10 * time.Second, EvictionTTL: time.Minute, IdleTimeout: time.Minute,
		HeartbeatInterval: 20 * time.Second,
	}
}

const testStart = 1_700_000_000_000

func idOf(i int) (id backends.SessionID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	id[0] = byte(i)
	return id
}

// plays returns the report of a stream that was opened at that second and was used just now.
func plays(i int, opened int64, most int) report {
	return report{id: idOf(i), opened: opened, isPlaying: true, maxStreams: most, zapTimeout: 6000}
}

func (p report) silentFor(d time.Duration) report {
	p.age = d.Milliseconds()
	return p
}

func (p report) on(device string) report {
	p.device = device
	return p
}

func (p report) zapsAfter(d time.Duration) report {
	p.zapTimeout = d.Milliseconds()
	return p
}

func states(all ...session.StreamState) []session.StreamState { return all }

const (
	active     = session.StreamActive
	evicted    = session.StreamEvicted
	superseded = session.StreamSuperseded
)

// limiter counts the streams of one user, at a time in ms.
type limiter interface {
	apply(now int64, reports ...report) session.LimitResult
}

// pureLimiter is a set that no other node changes.
type pureLimiter struct {
	set   streamSet
	rules rules
}

func newPureLimiter(p session.LimitPolicy) *pureLimiter {
	return &pureLimiter{rules: rulesInMillis(testRules(p))}
}

func (l *pureLimiter) apply(now int64, reports ...report) session.LimitResult {
	set, got := l.set.apply(reports, now, &l.rules)
	l.set = set
	return got.LimitResult
}

// scenarioStep is reports at a time, and the states that they find.
type scenarioStep struct {
	at      time.Duration
	reports []report
	want    []session.StreamState
}

func renew(at time.Duration, want []session.StreamState, reports ...report) scenarioStep {
	return scenarioStep{at, reports, want}
}

func join(at time.Duration, want session.StreamState, p report) scenarioStep {
	p.isJoin = true
	return scenarioStep{at, []report{p}, states(want)}
}

func leave(at time.Duration, i int) scenarioStep {
	return scenarioStep{at, []report{{isLeaving: true, id: idOf(i)}}, states(active)}
}

// together has streams play for so many seconds, reported each second.
func together(from, until time.Duration, reports ...report) (steps []scenarioStep) {
	want := make([]session.StreamState, len(reports))
	for at := from; at < until; at += time.Second {
		steps = append(steps, renew(at, want, reports...))
	}
	return steps
}

const s = time.Second

var scenarios = map[string]struct {
	policy session.LimitPolicy
	steps  []scenarioStep
}{
	"within the grace period all streams play": {session.EvictOldest, slices.Concat(
		[]scenarioStep{join(0, active, plays(1, 100, 1))}, together(1*s, 15*s, plays(1, 100, 1), plays(2, 101, 1)),
	)},
	"after the grace period the oldest is evicted": {session.EvictOldest, slices.Concat(
		[]scenarioStep{join(0, active, plays(1, 100, 1))}, together(1*s, 15*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{
			renew(15*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
			renew(20*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
		},
	)},
	"after the grace period the newest is evicted": {session.RejectNew, slices.Concat(
		[]scenarioStep{join(0, active, plays(1, 100, 1))}, together(1*s, 15*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{renew(15*s, states(active, evicted), plays(1, 100, 1), plays(2, 101, 1))},
	)},
	"a longer zap timeout has a longer grace period": {session.RejectNew, slices.Concat(
		together(0, 62*s, plays(1, 100, 1), plays(2, 101, 1).zapsAfter(30*s)),
		[]scenarioStep{renew(62*s, states(active, evicted), plays(1, 100, 1), plays(2, 101, 1))},
	)},
	"an evicted stream plays again once a stream is free": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{
			renew(14*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)), leave(15*s, 2),
			renew(16*s, states(active), plays(1, 100, 1)),
		},
	)},
	"an evicted stream plays again once the other is silent": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{
			renew(14*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
			renew(20*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1).silentFor(6*s)),
			renew(21*s, states(active, active), plays(1, 100, 1), plays(2, 101, 1).silentFor(7*s)),
		},
	)},
	"a silent stream does not count": {session.RejectNew, slices.Concat(
		together(0, 5*s, plays(1, 100, 1)),
		[]scenarioStep{
			join(6*s, active, plays(2, 106, 1)),
			renew(30*s, states(active, active), plays(1, 100, 1).silentFor(25*s), plays(2, 106, 1)),
			renew(50*s, states(active, active), plays(1, 100, 1).silentFor(45*s), plays(2, 106, 1)),
		},
	)},
	"a stream whose node died does not count for long": {session.RejectNew, slices.Concat(
		together(0, 5*s, plays(1, 100, 1)), together(5*s, 60*s, plays(2, 105, 1)),
	)},
	"a stream that left does not count": {session.RejectNew, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{renew(14*s, states(active, evicted), plays(1, 100, 1), plays(2, 101, 1)), leave(15*s, 1)},
		together(16*s, 50*s, plays(2, 101, 1)),
	)},
	"an evicted stream that is idle for long is new": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{
			renew(14*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
			renew(50*s, states(active), plays(2, 101, 1)), renew(74*s, states(active), plays(2, 101, 1)),
			join(75*s, active, plays(1, 175, 1)), renew(76*s, states(active), plays(2, 101, 1)),
		},
	)},
	"a device plays one stream": {session.EvictOldest, []scenarioStep{
		join(0, active, plays(1, 100, 3).on("box")), join(2*s, active, plays(2, 102, 3).on("box")),
		renew(3*s, states(superseded), plays(1, 100, 3).on("box").silentFor(s)),
		join(4*s, active, plays(1, 104, 3).on("box")), renew(5*s, states(superseded), plays(2, 102, 3).on("box").silentFor(3*s)),
	}},
	"opened in the same second, a device plays what it joined last": {session.EvictOldest, []scenarioStep{
		join(0, active, plays(1, 100, 3).on("box")), join(0, active, plays(2, 100, 3).on("box")),
		renew(3*s, states(superseded, active), plays(1, 100, 3).on("box"), plays(2, 100, 3).on("box")),
	}},
	"two devices are two": {session.EvictOldest,
		together(0, 40*s, plays(1, 100, 2).on("box"), plays(2, 101, 2).on("phone")),
	},
	"there and back within the grace period": {session.EvictOldest, slices.Concat(
		together(0, 20*s, plays(1, 100, 1)), together(20*s, 26*s, plays(2, 120, 1)),
		[]scenarioStep{renew(26*s, states(active, active), plays(1, 100, 1), plays(2, 120, 1).silentFor(s))},
		together(27*s, 33*s, plays(1, 100, 1)),
		[]scenarioStep{renew(33*s, states(active, active), plays(1, 100, 1), plays(2, 120, 1).silentFor(8*s))},
		together(34*s, 60*s, plays(1, 100, 1)),
	)},
	"a stream that does not play yet does not count": {session.EvictOldest,
		together(0, 40*s, report{id: idOf(1), opened: 100, maxStreams: 1}, plays(2, 101, 1)),
	},
	"a lower limit holds after a grace period": {session.EvictOldest, slices.Concat(
		together(0, 30*s, plays(1, 100, 2), plays(2, 101, 2)), together(30*s, 44*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{renew(44*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1))},
	)},
	"opened in the same second, one is evicted": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 100, 1)),
		[]scenarioStep{renew(14*s, states(active, evicted), plays(1, 100, 1), plays(2, 100, 1))},
	)},
	"a copy of a session on another node is no silent viewer": {session.RejectNew, slices.Concat(
		together(0, 10*s, plays(1, 100, 1)),
		[]scenarioStep{
			renew(10*s, states(active), plays(1, 100, 1).silentFor(9*s)), renew(10*s, states(active), plays(2, 110, 1)),
			renew(24*s, states(active, active), plays(1, 100, 1), plays(2, 110, 1).silentFor(s)),
			renew(25*s, states(active, evicted), plays(1, 100, 1), plays(2, 110, 1)),
		},
	)},
}

func runScenarios(t *testing.T, newLimiter func(name string, p session.LimitPolicy) limiter) {
	t.Helper()
	for name, test := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLimiter(name, test.policy)
			for i, step := range test.steps {
				got := l.apply(testStart+step.at.Milliseconds(), step.reports...)
				if diff := cmp.Diff(step.want, got.States); diff != "" {
					t.Fatalf("step %d, at %v (-want +got):\n%s", i, step.at, diff)
				}
			}
		})
	}
}

func TestStreamSet_Scenarios(t *testing.T) {
	t.Parallel()
	runScenarios(t, func(_ string, p session.LimitPolicy) limiter { return newPureLimiter(p) })
}

// zapper is a viewer who watches one channel at a time, each reported by a node of its own, every second.
type zapper struct {
	first, most  int
	device       string
	opened, seen map[int]int64
}

func newZapper(first, most int, device string) *zapper {
	return &zapper{first, most, device, map[int]int64{}, map[int]int64{}}
}

// watch reports all streams of the viewer, who watches that channel, and returns its state.
func (z *zapper) watch(l limiter, now int64, channel int) session.StreamState {
	isJoin := z.opened[channel] == 0
	if isJoin {
		z.opened[channel] = now / 1000
	}
	z.seen[channel] = now
	var state session.StreamState
	for i, opened := range z.opened {
		p := plays(z.first+i, opened, z.most).on(z.device).silentFor(time.Duration(now-z.seen[i]) * time.Millisecond)
		p.isJoin = isJoin && i == channel
		got := l.apply(now, p)
		if i == channel {
			state = got.States[0]
		}
		for _, e := range got.Evicted {
			delete(z.opened, int(e.Session[0])-z.first) // its ticket is refused, the next request opens it anew
		}
	}
	return state
}

// TestStreamSet_Zapping_NeverRefused has one viewer with a limit of one, who goes from channel to channel. They come back
// to a channel as they like, but not for the second time within a grace period.
func TestStreamSet_Zapping_NeverRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newPureLimiter(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")))
		z := newZapper(0, 1, rapid.SampledFrom([]string{"", "box"}).Draw(t, "device"))
		now, left := int64(testStart), map[int][]int64{}
		for range rapid.IntRange(2, 25).Draw(t, "zaps") {
			channel := rapid.IntRange(0, 6).Draw(t, "channel")
			if visits := left[channel]; len(visits) > 1 && now-visits[len(visits)-2] < 15_000 {
				continue
			}
			for end := now + int64(rapid.IntRange(1000, 15_000).Draw(t, "watches")); now < end; now += 1000 {
				if state := z.watch(l, now, channel); state != active {
					t.Fatalf("channel %d is %v after %d ms", channel, state, now-testStart)
				}
			}
			left[channel] = append(left[channel], now)
		}
	})
}

// TestStreamSet_TwoTVs_OneZaps has two viewers with a limit of two, one of whom zaps.
func TestStreamSet_TwoTVs_OneZaps(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.LimitPolicy{session.EvictOldest, session.RejectNew} {
		for _, every := range []int64{1, 3, 7, 20} {
			t.Run(fmt.Sprintf("%v every %d s", policy, every), func(t *testing.T) {
				t.Parallel()
				l := newPureLimiter(policy)
				z := newZapper(1, 2, "")
				for i := range int64(240) {
					now := testStart + i*1000
					if got := l.apply(now, plays(0, testStart/1000, 2)).States[0]; got != active {
						t.Fatalf("the one who stays is %v after %d s", got, i)
					}
					if got := z.watch(l, now, int(i/every)%100); got != active {
						t.Fatalf("the one who zaps is %v after %d s", got, i)
					}
				}
			})
		}
	}
}

// TestStreamSet_ExactOnceSettled has streams of one user that never stop, on nodes whose reports are late and whose answers
// are lost.
func TestStreamSet_ExactOnceSettled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy"))
		checkSettles(t, newPureLimiter(policy), rapid.IntRange(1, 4).Draw(t, "max"), rapid.IntRange(1, 9).Draw(t, "viewers"))
	})
}

func checkSettles(t *rapid.T, l limiter, most, count int) {
	t.Helper()
	known, start, settled := make([]session.StreamState, count), int64(testStart), int64(17_000)
	for now := start; now < start+40_000; now += 500 {
		for i := range count {
			if rapid.IntRange(0, 9).Draw(t, "message") == 0 && now > start {
				continue // it is lost
			}
			p := plays(i, int64(100+i), most).silentFor(time.Duration(rapid.IntRange(0, 400).Draw(t, "late")) * time.Millisecond)
			p.isJoin = known[i] != active || now == start // the viewer tries again
			if got := l.apply(now, p); rapid.IntRange(0, 9).Draw(t, "answer") > 0 {
				known[i] = got.States[0]
			}
		}
		if now < start+settled {
			continue
		}
		playing := 0
		for i := range count {
			if l.apply(now, plays(i, int64(100+i), most)).States[0] == active {
				playing++
			}
		}
		if want := min(most, count); playing != want {
			t.Fatalf("%d of %d play after %d ms, want %d", playing, count, now-start, want)
		}
	}
}

// TestStreamSet_RandomReports_Bounded sends anything, also from a clock that is set back.
func TestStreamSet_RandomReports_Bounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rulesInMillis(testRules(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy"))))
		var set streamSet
		now := int64(testStart)
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			now += rapid.SampledFrom([]int64{0, 1, 400, 1000, 3000, 10_000, 61_000, -5000}).Draw(t, "passes")
			reports := rapid.SliceOfN(rapid.Custom(drawReport), 1, 200).Draw(t, "reports")
			before := slices.Clone(set)
			next, got := set.apply(reports, now, &r)
			if diff := cmp.Diff(before, set, cmp.AllowUnexported(stream{})); diff != "" {
				t.Fatalf("the set was changed:\n%s", diff)
			}
			if len(next) > maxTracked || len(got.States) != len(reports) {
				t.Fatalf("%d streams, %d states for %d reports", len(next), len(got.States), len(reports))
			}
			seen := map[backends.SessionID]bool{}
			for _, s := range next {
				if seen[s.id] || max(s.lastSeen, s.reportedAt, s.countedSince) > now {
					t.Fatalf("%+v at %d", s, now)
				}
				seen[s.id] = true
			}
			decoded, err := decode(next.encode())
			if diff := cmp.Diff(next, decoded, cmp.AllowUnexported(stream{})); len(next) > 0 && diff != "" || err != nil {
				t.Fatalf("decoded (-want +got): %v\n%s", err, diff)
			}
			set = next
		}
	})
}

func drawReport(t *rapid.T) report {
	return report{
		isLeaving: rapid.IntRange(0, 9).Draw(t, "leaving") == 0, isJoin: rapid.Bool().Draw(t, "join"),
		id: idOf(rapid.IntRange(0, 250).Draw(t, "session")), opened: rapid.Int64Range(1, 5).Draw(t, "opened"),
		age:       rapid.SampledFrom([]int64{0, 200, 1500, 12_000, 70_000}).Draw(t, "age"),
		isPlaying: rapid.IntRange(0, 3).Draw(t, "plays") > 0, maxStreams: rapid.IntRange(1, 3).Draw(t, "max"),
		zapTimeout: rapid.SampledFrom([]int64{0, 6000, 60_000}).Draw(t, "zap"),
		device:     rapid.SampledFrom([]string{"", "", "box", "phone"}).Draw(t, "device"),
	}
}

// TestStreamSet_ManyStreams_NoneForNothing has more streams than a set holds: those that find no room are refused once the
// limit is reached.
func TestStreamSet_ManyStreams_NoneForNothing(t *testing.T) {
	t.Parallel()
	l := newPureLimiter(session.EvictOldest)
	for i := range maxTracked {
		l.apply(testStart, plays(i, 100, 3))
	}
	if got := l.apply(testStart, plays(200, 100, 3)).States[0]; got != evicted {
		t.Errorf("one more is %v", got)
	}
	hotel := newPureLimiter(session.EvictOldest)
	for i := range maxTracked {
		hotel.apply(testStart, plays(i, 100, 500))
	}
	if got := hotel.apply(testStart, plays(200, 100, 500)).States[0]; got != active {
		t.Errorf("with a limit of 500 one more is %v", got)
	}
}

func FuzzDecode(f *testing.F) {
	set, _ := streamSet(nil).apply([]report{plays(1, 100, 1).on("box")}, testStart, new(rulesInMillis(testRules(session.EvictOldest))))
	f.Add(set.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(set.encode())
		if diff := cmp.Diff(set, again, cmp.AllowUnexported(stream{})); diff != "" || err != nil {
			t.Errorf("decoded again: %v\n%s", err, diff)
		}
	})
}
