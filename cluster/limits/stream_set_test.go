package limits

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
	return report{facts: facts{ID: idOf(i), Group: idOf(i), Opened: opened, IsPlaying: true, MaxStreams: int32(most), ZapTimeout: 6000}}
}

// leaves returns the report of a stream that has ended.
func leaves(i int) report { return report{facts: facts{ID: idOf(i)}, isLeaving: true} }

// of returns the report of a stream of that group.
func (p report) of(group int) report {
	p.Group = idOf(group)
	return p
}

func (p report) overIPv6() report {
	p.IsIPv6 = true
	return p
}

func (p report) silentFor(d time.Duration) report {
	p.age = d.Milliseconds()
	return p
}

func (p report) on(device string) report {
	copy(p.Device[:], device)
	return p
}

func (p report) zapsAfter(d time.Duration) report {
	p.ZapTimeout = d.Milliseconds()
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
	return &pureLimiter{rules: rules{LimitRules: testRules(p)}}
}

func (l *pureLimiter) apply(now int64, reports ...report) session.LimitResult {
	set, got := l.set.apply(reports, now, &l.rules)
	l.set = set
	return got.LimitResult
}

// apply is applyReports on a node that was never out of reach of the store.
func (s streamSet) apply(reports []report, now int64, r *rules) (streamSet, result) {
	return s.applyReports(reports, now, 0, r)
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
	return scenarioStep{at, []report{leaves(i)}, states(active)}
}

// together has streams play for so many seconds, reported each second.
func together(from, until time.Duration, reports ...report) (steps []scenarioStep) {
	want := make([]session.StreamState, len(reports))
	for at := from; at < until; at += time.Second {
		steps = append(steps, renew(at, want, reports...))
	}
	return steps
}

const (
	s  = time.Second
	ms = time.Millisecond
)

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
	"an evicted stream plays again once no report says that the other asks": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{
			renew(14*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
			renew(40*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1).silentFor(26*s)),
			renew(41*s, states(active, active), plays(1, 100, 1), plays(2, 101, 1).silentFor(27*s)),
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
	"opened in the same second, a device plays what it asked for last, though a node joins the other one late": {session.RejectNew, []scenarioStep{
		join(0, active, plays(2, 100, 1).on("box")), join(300*ms, superseded, plays(1, 100, 1).on("box").silentFor(400*ms)),
		renew(s, states(active), plays(2, 100, 1).on("box")),
	}},
	"opened in the same second, a device plays what it asked for last, though a node restores the other one first": {session.RejectNew, []scenarioStep{
		renew(0, states(active), plays(1, 100, 1).on("box").silentFor(2*s)),
		renew(0, states(active), plays(2, 100, 1).on("box").silentFor(s)),
		renew(s, states(superseded, active), plays(1, 100, 1).on("box").silentFor(3*s), plays(2, 100, 1).on("box")),
	}},
	"two devices are two": {
		session.EvictOldest,
		together(0, 40*s, plays(1, 100, 2).on("box"), plays(2, 101, 2).on("phone")),
	},
	"there and back within the grace period": {session.EvictOldest, slices.Concat(
		together(0, 20*s, plays(1, 100, 1)), together(20*s, 26*s, plays(2, 120, 1)),
		[]scenarioStep{renew(26*s, states(active, active), plays(1, 100, 1), plays(2, 120, 1).silentFor(s))},
		together(27*s, 33*s, plays(1, 100, 1)),
		[]scenarioStep{renew(33*s, states(active, active), plays(1, 100, 1), plays(2, 120, 1).silentFor(8*s))},
		together(34*s, 60*s, plays(1, 100, 1)),
	)},
	"a stream that does not play yet does not count": {
		session.EvictOldest,
		together(0, 40*s, report{facts: facts{ID: idOf(1), Group: idOf(1), Opened: 100, MaxStreams: 1}}, plays(2, 101, 1)),
	},
	"a lower limit holds after a grace period": {session.EvictOldest, slices.Concat(
		together(0, 30*s, plays(1, 100, 2), plays(2, 101, 2)), together(30*s, 44*s, plays(1, 100, 1), plays(2, 101, 1)),
		[]scenarioStep{renew(44*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1))},
	)},
	"opened in the same second, the one that joined last is the newest": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 100, 1)),
		[]scenarioStep{renew(14*s, states(evicted, active), plays(1, 100, 1), plays(2, 100, 1))},
	)},
	"opened in the same second, whatever their ids are": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(2, 100, 1), plays(1, 100, 1)),
		[]scenarioStep{renew(14*s, states(evicted, active), plays(2, 100, 1), plays(1, 100, 1))},
	)},
	"opened in the same second, the one that joined first is the oldest": {session.RejectNew, slices.Concat(
		together(0, 14*s, plays(2, 100, 1), plays(1, 100, 1)),
		[]scenarioStep{renew(14*s, states(active, evicted), plays(2, 100, 1), plays(1, 100, 1))},
	)},
	"opened anew in the second of another one, it is the newest": {session.EvictOldest, slices.Concat(
		[]scenarioStep{join(0, active, plays(1, 100, 1)), join(s, active, plays(2, 101, 1)), join(s, active, plays(1, 101, 1))},
		together(2*s, 15*s, plays(1, 101, 1), plays(2, 101, 1)),
		[]scenarioStep{renew(15*s, states(active, evicted), plays(1, 101, 1), plays(2, 101, 1))},
	)},
	"an IPv4 and an IPv6 stream of a group are one": {
		session.EvictOldest,
		together(0, 60*s, plays(1, 100, 1).of(9), plays(2, 110, 1).of(9).overIPv6()),
	},
	"two IPv4 streams of a group are two": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1).of(9), plays(2, 101, 1).of(9)),
		[]scenarioStep{renew(14*s, states(evicted, active), plays(1, 100, 1).of(9), plays(2, 101, 1).of(9))},
	)},
	"an IPv4 and an IPv6 stream of two groups are two": {session.RejectNew, slices.Concat(
		together(0, 14*s, plays(1, 100, 1), plays(2, 101, 1).overIPv6()),
		[]scenarioStep{renew(14*s, states(active, evicted), plays(1, 100, 1), plays(2, 101, 1).overIPv6())},
	)},
	"both streams of a viewer are evicted, and play again": {session.EvictOldest, slices.Concat(
		together(0, 14*s, plays(1, 100, 1).of(9), plays(2, 100, 1).of(9).overIPv6(), plays(3, 101, 1)),
		[]scenarioStep{
			renew(14*s, states(evicted, evicted, active), plays(1, 100, 1).of(9), plays(2, 100, 1).of(9).overIPv6(), plays(3, 101, 1)),
			leave(15*s, 3),
			renew(16*s, states(active, active), plays(1, 100, 1).of(9), plays(2, 100, 1).of(9).overIPv6()),
		},
	)},
	"a viewer who plays by IPv4 gets IPv6 beside it": {session.RejectNew, slices.Concat(
		together(0, 20*s, plays(1, 100, 2).of(9), plays(3, 101, 2)),
		together(20*s, 60*s, plays(1, 100, 2).of(9), plays(3, 101, 2), plays(2, 120, 2).of(9).overIPv6()),
	)},
	"a viewer who moves has one device": {
		session.EvictOldest,
		together(0, 10*s, plays(1, 100, 2).of(9).on("box"), plays(2, 105, 2).of(9).on("box")),
	},
	"a new channel supersedes all addresses of the old one": {session.EvictOldest, []scenarioStep{
		join(0, active, plays(1, 100, 3).of(9).on("box")), join(s, active, plays(2, 101, 3).of(9).on("box").overIPv6()),
		join(2*s, active, plays(3, 102, 3).on("box")),
		renew(3*s, states(superseded, superseded), plays(1, 100, 3).of(9).on("box"), plays(2, 101, 3).of(9).on("box").overIPv6()),
	}},
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

// TestStreamSet_AbandonedPlace_Free: the place of a stream whose node died, so that nobody reports it, is free after a
// heartbeat interval of 20 s and the zap timeout of 6 s, and not earlier.
func TestStreamSet_AbandonedPlace_Free(t *testing.T) {
	t.Parallel()
	l := newPureLimiter(session.RejectNew)
	for second := range int64(16) { // both play, and the second one is evicted
		now := testStart + second*1000
		l.apply(now, plays(1, 100, 1))
		l.apply(now, plays(2, 101, 1))
	}
	died := int64(testStart + 15_000)
	for _, test := range []struct {
		after int64
		want  session.StreamState
	}{{1000, evicted}, {26_000, evicted}, {26_001, active}, {30_000, active}} {
		if got := l.apply(died+test.after, plays(2, 101, 1)).States[0]; got != test.want {
			t.Errorf("%d ms after the last report the other one is %v, want %v", test.after, got, test.want)
		}
	}
}
