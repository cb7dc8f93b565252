package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	crowdSize, crowdLimit = 100, 3
	// limitGrace is the grace period in effect: two zap timeouts of 4 s, and 2 s.
	limitGrace = 10 * time.Second
	// silentFor is after how long without a segment a viewer no longer plays. The segments are one second long.
	silentFor = 5 * time.Second
)

// redisFault sets up a Redis, and returns the nodes' section and what happens to it. That ends when all nodes use it again.
type redisFault func(t *testing.T) (section string, strike func(t *testing.T, a *audience))

func flushRedis(t *testing.T) (string, func(*testing.T, *audience)) {
	r := startRedis(t)
	return r.standalone(), func(t *testing.T, _ *audience) { r.do(t, "FLUSHALL") }
}

// freezeRedis freezes Redis. Each node counts alone meanwhile.
func freezeRedis(t *testing.T) (string, func(*testing.T, *audience)) {
	r := startRedis(t)
	return r.standalone(), func(t *testing.T, a *audience) {
		r.signal(syscall.SIGSTOP)
		awaitRedisDown(t, a.nodes, true)
		pause(t, *frozenFor)
		r.signal(syscall.SIGCONT)
		awaitRedisDown(t, a.nodes, false)
	}
}

// failRedisOver kills the master, whose replica has not received the last writes.
func failRedisOver(t *testing.T) (string, func(*testing.T, *audience)) {
	w := startSentinels(t)
	return w.section(), func(t *testing.T, a *audience) {
		loseMaster(t, w.master, w.replica, func() { awaitSegments(t, []*viewer{a.alone["hopper"]}, 1) })
		awaitRedisDown(t, a.nodes, true)
		a.awaitRecovery(t)
	}
}

// TestCluster_StreamLimits_RedisFails has users with limits play on three nodes while Redis loses its data, freezes or fails
// over: two users with a hundred tokens each, all opened at once, and some who never watch more than they may. It runs beside no
// other test, because its viewers load the machine and other tests measure time.
func TestCluster_StreamLimits_RedisFails(t *testing.T) {
	for name, test := range map[string]struct {
		policy string
		begin  redisFault
		binary func(*testing.T) string
	}{
		"evict-oldest, flushed":     {"evict-oldest", flushRedis, binary},
		"reject-new, flushed":       {"reject-new", flushRedis, binary},
		"evict-oldest, frozen":      {"evict-oldest", freezeRedis, plainBinary},
		"reject-new, frozen":        {"reject-new", freezeRedis, plainBinary},
		"evict-oldest, failed over": {"evict-oldest", failRedisOver, plainBinary},
		"reject-new, failed over":   {"reject-new", failRedisOver, plainBinary},
	} {
		t.Run(name, func(t *testing.T) {
			section, strike := test.begin(t)
			a := newAudience(t, startCluster(t, 3, clusterSetup{
				redis: section, route: "device_fields: [ mac ]", binary: test.binary(t), backend: "validity: 1h, answer_deadline: 10s",
				sessions: fmt.Sprintf("per_user: { policy: %s, grace_period: 4s, zap_timeout: 4s }", test.policy),
			}))
			began := time.Now()
			a.start(t)
			playing := a.awaitExact(t, "opened", began, began.Add(limitGrace+3*time.Second+silentFor))
			a.settle(playing)

			close(a.striking)
			strike(t, a)
			recovered := time.Now()
			close(a.recovered)
			awaitSegments(t, []*viewer{a.alone["hopper"]}, 3)
			a.stopHopper()
			a.wantPlaying(t, playing, a.awaitExact(t, name, recovered, recovered.Add(limitGrace+heartbeat+silentFor)))
			a.wantOneClosing(t, "hopper")
			a.wantPlaying(t, playing, a.awaitExact(t, "at the end", recovered, recovered))
			a.stop()
			a.wantUntouched(t)
		})
	}
}

// audience is viewers of several users.
type audience struct {
	*cluster
	// crowds are of one user each. The tokens of the first one are all used at one address, those of the second one at a
	// hundred.
	crowds [2][]*viewer
	// alone are the viewers of users who never watch more than they may.
	alone map[string]*viewer
	// settled are those of the crowds who play, once the limits are exact, by the number of problems that they had before.
	settled map[*viewer]int
	// striking is closed before Redis fails, and recovered when all nodes use it again.
	striking, recovered chan struct{}
	stopHopper, stop    func()
}

func newAudience(t *testing.T, c *cluster) *audience {
	t.Helper()
	a := &audience{
		cluster: c, alone: map[string]*viewer{}, striking: make(chan struct{}), recovered: make(chan struct{}),
	}
	const home, others = 300, 301 // numbers of addresses
	for i := range a.crowds {
		for k := range crowdSize {
			token, address := fmt.Sprintf("good-%d-%d", i, k), home
			if i > 0 {
				address = k
			}
			setStreamLimit(c.middleware, fmt.Sprint("crowd ", i), crowdLimit, token)
			a.crowds[i] = append(a.crowds[i], c.viewer(t, address, channelPath(k, token)))
		}
	}
	for i, name := range []string{"hopper", "box", "box-with-device", "there-and-back"} {
		setStreamLimit(c.middleware, name, 1, "good-"+name)
		a.alone[name] = c.viewer(t, others+i, channelPath(0, "good-"+name))
	}
	setStreamLimit(c.middleware, "family", 2, "good-tv", "good-zapping-tv")
	for _, name := range []string{"tv", "zapping-tv"} {
		a.alone[name] = c.viewer(t, others+10, channelPath(0, "good-"+name))
	}
	return a
}

// channelPath returns the path of one of twenty channels, with a token.
func channelPath(i int, token string) string {
	return fmt.Sprintf("/play/a%03d/low.m3u8?token=%s", i%20, token)
}

// start lets all begin at once.
func (a *audience) start(t *testing.T) {
	t.Helper()
	a.stopHopper = startWatching(t, []*viewer{a.alone["hopper"]})
	stopOthers := startWatching(t, slices.Concat(a.crowds[0], a.crowds[1], []*viewer{a.alone["tv"]}))
	ctx, cancel := context.WithCancel(context.Background())
	var playing sync.WaitGroup
	play := func(name, query string, script func(watch func(channel int, d time.Duration))) {
		playing.Go(func() {
			script(func(channel int, d time.Duration) {
				a.alone[name].watchFor(ctx, d, a.url+channelPath(channel, "good-"+name)+query)
			})
		})
	}
	zap := func(watch func(int, time.Duration)) {
		for i := 0; ctx.Err() == nil && (i < 20 || !isClosed(a.recovered)); i++ {
			watch(i, time.Second)
		}
		watch(0, time.Hour)
	}
	play("box", "", zap)
	play("box-with-device", "&mac=00-1a-79-00-00-01", zap)
	play("zapping-tv", "", func(watch func(int, time.Duration)) {
		for i := 0; ctx.Err() == nil; i++ {
			watch(i, time.Second)
		}
	})
	play("there-and-back", "", func(watch func(int, time.Duration)) {
		watch(0, 3*time.Second)
		watch(1, 2*time.Second)
		for ctx.Err() == nil && !isClosed(a.striking) {
			watch(0, time.Second)
		}
		watch(1, 2*time.Second)
		watch(0, time.Hour)
	})
	a.stop = func() {
		cancel()
		playing.Wait()
		stopOthers()
	}
	t.Cleanup(a.stop)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// awaitExact waits from that time on until as many of each crowd play as may, and returns them. It logs how long after since
// the last segment came that was one too many.
func (a *audience) awaitExact(t *testing.T, what string, since, from time.Time) (playing [2][]int) {
	t.Helper()
	var last time.Time
	eventually(t, 2*waitTimeout, what+": the limits are exact", func() error {
		now := time.Now()
		if now.Before(from) {
			return fmt.Errorf("%s left", from.Sub(now))
		}
		last = since
		for i, crowd := range a.crowds {
			playing[i] = nil
			for k, v := range crowd {
				if at := v.lastSegment(); now.Sub(at) < silentFor {
					playing[i] = append(playing[i], k)
				} else if at.After(last) {
					last = at
				}
			}
			if len(playing[i]) != crowdLimit {
				return fmt.Errorf("viewers %v of crowd %d play", playing[i], i)
			}
		}
		return nil
	})
	t.Logf("cluster: %s: %d of %d tokens play; the last segment of another one came %s after that", what,
		crowdLimit, crowdSize, last.Sub(since).Round(100*time.Millisecond))
	return playing
}

// wantPlaying compares those of each crowd who play with those who played before.
func (a *audience) wantPlaying(t *testing.T, want, got [2][]int) {
	t.Helper()
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("viewers %v of crowd %d play, want still %v", got[i], i, want[i])
		}
	}
}

// settle takes those who play from now on. Before, while too many played, each of them may have been refused.
func (a *audience) settle(playing [2][]int) {
	a.settled = map[*viewer]int{}
	for i, numbers := range playing {
		for _, k := range numbers {
			_, problems := a.crowds[i][k].progress()
			a.settled[a.crowds[i][k]] = len(problems)
		}
	}
}

// wantUntouched fails the test if a viewer had a problem who never watched more than they may, or one of a crowd since they settled.
func (a *audience) wantUntouched(t *testing.T) {
	t.Helper()
	want := func(name string, v *viewer, before int) {
		if segments, problems := v.progress(); len(problems) > before || segments < 10 {
			t.Errorf("%s: %d segments; problems:\n%s", name, segments, firstLines(problems[before:]))
		}
	}
	for name, v := range a.alone {
		want(name, v, 0)
	}
	for v, before := range a.settled {
		want("one of a crowd", v, before)
	}
}

// wantOneClosing waits for the closing record of the user's only session, and fails the test if there is another one.
func (a *audience) wantOneClosing(t *testing.T, user string) {
	t.Helper()
	count := func() (n int) {
		for _, line := range a.closings() {
			if strings.Contains(line, fmt.Sprintf("%q:%q", "user", user)) {
				n++
			}
		}
		return n
	}
	eventually(t, waitTimeout, "the session of "+user+" closes", func() error {
		if count() == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	pause(t, 2*heartbeat) // long enough for another node to close it too
	if n := count(); n != 1 {
		t.Errorf("%d closing records of %s, want one", n, user)
	}
}
