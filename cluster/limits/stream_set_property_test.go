package limits

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends"
)

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

// TestStreamSet_FastZapping_LatestChannelPlays has a device zap several times a second, and the nodes report its channels late and in
// any order, as after an outage: the one that it watches plays.
func TestStreamSet_FastZapping_LatestChannelPlays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newPureLimiter(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")))
		opened, lastAsked := int64(testStart), []int64(nil)
		var channels []report
		for i := range rapid.IntRange(2, 6).Draw(t, "channels") {
			p := plays(i, opened/1000, 1).on("box")
			p.isJoin = rapid.Bool().Draw(t, "joins")
			watched := rapid.Int64Range(1, 1200).Draw(t, "watched")
			lastAsked = append(lastAsked, opened+rapid.Int64Range(0, watched-1).Draw(t, "asked"))
			channels, opened = append(channels, p), opened+watched
		}
		order := make([]int, len(channels))
		for i := range order {
			order[i] = i
		}
		for _, i := range rapid.Permutation(order).Draw(t, "order") {
			channels[i].age = opened - lastAsked[i]
			l.apply(opened, channels[i])
		}
		last := len(channels) - 1
		channels[last].age, channels[last].isJoin = 0, false
		if got := l.apply(opened, channels[last]); got.States[0] != active {
			t.Errorf("the channel that the device watches is %v, want it active", got.States[0])
		}
	})
}

// TestStreamSet_Zapping_NeverRefused has one viewer with a limit of one, who goes from channel to channel. They come back to a
// channel before a node can have reported it as silent no more than once: the next time they stay away for longer.
func TestStreamSet_Zapping_NeverRefused(t *testing.T) {
	t.Parallel()
	const countedFor = 7000 // the zap timeout, and a second until the next report
	rapid.Check(t, func(t *rapid.T) {
		l := newPureLimiter(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")))
		z := newZapper(0, 1, rapid.SampledFrom([]string{"", "box"}).Draw(t, "device"))
		now, cameBack := int64(testStart), map[int]bool{}
		for range rapid.IntRange(2, 25).Draw(t, "zaps") {
			channel := rapid.IntRange(0, 6).Draw(t, "channel")
			seen, isKnown := z.seen[channel]
			isSoon := isKnown && now-seen <= countedFor
			switch {
			case isKnown && now-seen == 1000: // the viewer stays
			case isSoon && cameBack[channel]:
				continue
			default:
				cameBack[channel] = isSoon
			}
			for end := now + int64(rapid.IntRange(1000, 15_000).Draw(t, "watches")); now < end; now += 1000 {
				if state := z.watch(l, now, channel); state != active {
					t.Fatalf("channel %d is %v after %d ms", channel, state, now-testStart)
				}
			}
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

// settledAfter is when the limit is exact, in ms: the last viewer is seen after half a second, plays together with the others
// for the grace period of 14 s, and both are seen once more.
const settledAfter = 16_000

// mayLose reports whether a message of that time can be lost. Each other one arrives: a node reports each second.
func mayLose(now int64) bool { return (now-testStart)/500%2 == 0 }

// settler is a viewer who never stops: one stream, or an IPv4 and an IPv6 stream of one group.
type settler struct {
	streams []report
	known   session.StreamState
}

func newSettlers(t *rapid.T, most, count int) []settler {
	viewers := make([]settler, count)
	for i := range viewers {
		viewers[i].streams = []report{plays(i, int64(100+i), most)}
		if rapid.IntRange(0, 2).Draw(t, "stacks") == 0 {
			other := plays(100+i, int64(100+i), most).of(i).overIPv6()
			viewers[i].streams = append(viewers[i].streams, other)
		}
	}
	return viewers
}

// playing returns how many viewers play. All streams of a viewer are in one state.
func playing(t *rapid.T, l limiter, now int64, viewers []settler) (n int) {
	for _, v := range viewers {
		states := l.apply(now, v.streams...).States
		for _, state := range states {
			if state != states[0] {
				t.Fatalf("the addresses of a viewer are %v", states)
			}
		}
		if states[0] == active {
			n++
		}
	}
	return n
}

func checkSettles(t *rapid.T, l limiter, most, count int) {
	t.Helper()
	viewers, start := newSettlers(t, most, count), int64(testStart)
	for now := start; now < start+40_000; now += 500 {
		for i := range viewers {
			v := &viewers[i]
			if mayLose(now) && rapid.IntRange(0, 9).Draw(t, "message") == 0 && now > start {
				continue // it is lost
			}
			late := time.Duration(rapid.IntRange(0, 400).Draw(t, "late")) * time.Millisecond
			var reports []report
			for _, p := range v.streams {
				p = p.silentFor(late)
				p.isJoin = v.known != active || now == start // the viewer tries again
				reports = append(reports, p)
			}
			if got := l.apply(now, reports...); rapid.IntRange(0, 9).Draw(t, "answer") > 0 {
				v.known = got.States[0]
			}
		}
		if now < start+settledAfter {
			continue
		}
		if n, want := playing(t, l, now, viewers), min(most, count); n != want {
			t.Fatalf("%d of %d play after %d ms, want %d", n, count, now-start, want)
		}
	}
}

// TestStreamSet_RandomReports_Bounded sends anything, also from a clock that is set back.
func TestStreamSet_RandomReports_Bounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rules{LimitRules: testRules(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")))}
		var set streamSet
		now := int64(testStart)
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			now += rapid.SampledFrom([]int64{0, 1, 400, 1000, 3000, 10_000, 61_000, -5000}).Draw(t, "passes")
			reports := rapid.SliceOfN(rapid.Custom(drawReport), 1, 200).Draw(t, "reports")
			before := slices.Clone(set)
			next, got := set.apply(reports, now, &r)
			if !slices.Equal(before, set) {
				t.Fatalf("apply changed the set to %+v, want %+v", set, before)
			}
			if len(next) > maxTracked || len(got.States) != len(reports) {
				t.Fatalf("%d streams, %d states for %d reports", len(next), len(got.States), len(reports))
			}
			seen := map[backends.SessionID]bool{}
			for _, s := range next {
				if seen[s.ID] || max(s.LastSeen, s.ReportedAt, s.CountedSince) > now {
					t.Fatalf("%+v at %d", s, now)
				}
				seen[s.ID] = true
			}
			stored := storedSet{streams: next, epoch: 1, writes: 2, restored: 1}
			decoded, err := decode(stored.encode())
			isSame := slices.Equal(stored.streams, decoded.streams) &&
				[...]int64{decoded.epoch, decoded.writes, decoded.restored} == [...]int64{stored.epoch, stored.writes, stored.restored}
			if !isSame || err != nil { // cmp.Diff would take most of the test's time
				t.Fatalf("decoded %+v, %v; want %+v", decoded, err, stored)
			}
			set = next
		}
	})
}

func drawReport(t *rapid.T) report {
	return report{
		facts: facts{
			ID: idOf(rapid.IntRange(0, 250).Draw(t, "session")), Group: idOf(rapid.IntRange(0, 9).Draw(t, "group")),
			IsIPv6: rapid.Bool().Draw(t, "IPv6"), Opened: rapid.Int64Range(1, 5).Draw(t, "opened"),
			IsPlaying: rapid.IntRange(0, 3).Draw(t, "plays") > 0, MaxStreams: rapid.Int32Range(1, 3).Draw(t, "max"),
			ZapTimeout: rapid.SampledFrom([]int64{0, 6000, 60_000}).Draw(t, "zap"),
			Device:     rapid.SampledFrom([]device{{}, {}, {1}, {2}}).Draw(t, "device"),
		},
		isLeaving: rapid.IntRange(0, 9).Draw(t, "leaving") == 0, isJoin: rapid.Bool().Draw(t, "join"),
		age: rapid.SampledFrom([]int64{0, 200, 1500, 12_000, 70_000}).Draw(t, "age"),
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
