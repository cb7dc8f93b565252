package limits

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// testRules are the rules of these tests: a grace period of 10 s, and 10 s for the zap timeout.
func testRules(p session.LimitPolicy) session.LimitRules {
	return session.LimitRules{
		Policy: p, GracePeriod: 10 * time.Second, ZapTimeout: 10 * time.Second, EvictionTTL: time.Minute, IdleTimeout: time.Minute,
	}
}

func idOf(i int) (id backends.SessionID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	id[0] = byte(i)
	return id
}

// limiter counts the streams of one user, at explicit times in ms.
type limiter interface {
	apply(op string, now int64, reports ...report) session.LimitResult
}

// goLimiter is the implementation in Go.
type goLimiter struct {
	*streamSet
	rules rules
}

func newGoLimiter(p session.LimitPolicy) *goLimiter {
	return &goLimiter{newStreamSet(), rulesInMillis(testRules(p))}
}

func (g *goLimiter) apply(op string, now int64, reports ...report) session.LimitResult {
	if op == "leave" {
		g.leave(g.rules, reports[0].id, now)
		return session.LimitResult{}
	}
	reports = slices.Clone(reports) // the script gets the same ones
	for i := range reports {
		reports[i].isJoin = op == "join"
	}
	result, _ := g.streamSet.apply(g.rules, reports, now)
	return sorted(result)
}

// luaLimiter is the implementation in Lua.
type luaLimiter struct {
	t      interface{ Fatalf(string, ...any) }
	server *redistest.Server
	redis  *Redis
	now    int64
	user   string
}

func newClient(t testing.TB, server *redistest.Server) *redisclient.Client {
	t.Helper()
	c := redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 32}
	client, err := redisclient.New(c, 5*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newCipher(t testing.TB) *redisclient.Cipher {
	t.Helper()
	cipher, err := redisclient.NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	return cipher
}

// newLuaLimiters returns a function that makes a limiter for each user.
func newLuaLimiters(t testing.TB) func(t interface{ Fatalf(string, ...any) }, p session.LimitPolicy, user string) *luaLimiter {
	t.Helper()
	server := redistest.Start(t)
	client, cipher := newClient(t, server), newCipher(t)
	return func(t interface{ Fatalf(string, ...any) }, p session.LimitPolicy, user string) *luaLimiter {
		l := &luaLimiter{t: t, server: server, user: user, redis: NewRedis(client, cipher, testRules(p))}
		l.redis.clock = func() int64 { return l.now }
		return l
	}
}

func (l *luaLimiter) apply(op string, now int64, reports ...report) session.LimitResult {
	l.now = now
	if op == "leave" {
		if err := l.redis.LeaveStream(context.Background(), l.user, reports[0].id); err != nil {
			l.t.Fatalf("leave: %v", err)
		}
		return session.LimitResult{}
	}
	result, err := l.redis.send(context.Background(), op, l.user, reports)
	if err != nil {
		l.t.Fatalf("%s: %v", op, err)
	}
	return sorted(result)
}

// stored returns what Redis holds of the user: each stream by its id, and since when the limit is exceeded.
func (l *luaLimiter) stored() map[string]string {
	reply, err := l.server.Client.Eval(context.Background(), `
		local result = {}
		local all = redis.call('HGETALL', KEYS[1])
		for i = 1, #all, 2 do
			local text = all[i + 1]
			if all[i] ~= 'exceededSince' then
				local p = cmsgpack.unpack(text)
				for j = 2, 10 do
					p[j] = string.format('%.0f', p[j])
				end
				text = table.concat(p, ' ', 2)
			end
			result[i], result[i + 1] = all[i], text
		end
		return result`, l.redis.keys(l.redis.cipher.UserHash(l.user))).Result()
	if err != nil {
		l.t.Fatalf("stored: %v", err)
	}
	kept := map[string]string{}
	for all := redisclient.List(reply); len(all) > 1; all = all[2:] {
		kept[redisclient.Text(all[0])] = redisclient.Text(all[1])
	}
	return kept
}

// storedBy returns the same of the implementation in Go, as the script writes it.
func (g *goLimiter) storedBy(l *luaLimiter) map[string]string {
	kept := map[string]string{}
	for id, s := range g.streams {
		kept[hex.EncodeToString(id[:])] = fmt.Sprint(s.opened, s.lastSeen, s.reportedAt, s.playingSince, int(s.state), s.excessSince,
			s.roundStart, s.rounds, s.maxStreams) +
			" " + l.redis.pseudonym("device", l.user, s.device) + " " + l.redis.pseudonym("address", l.user, s.address)
	}
	if g.exceededSince > 0 {
		kept["exceededSince"] = fmt.Sprint(g.exceededSince)
	}
	return kept
}

// sorted sorts the evicted streams, whose order does not matter.
func sorted(result session.LimitResult) session.LimitResult {
	slices.SortFunc(result.Evicted, func(a, b session.EvictedStream) int { return cmp.Compare(a.Session.String(), b.Session.String()) })
	return result
}

// plays returns the report of a stream that was opened at that second and was used just now.
func plays(i int, opened int64, most int) report {
	return report{id: idOf(i), opened: opened, isPlaying: true, maxStreams: most, address: fmt.Sprint("192.0.2.", i)}
}

func (p report) silentFor(d time.Duration) report {
	p.age = d.Milliseconds()
	return p
}

func (p report) at(address string) report {
	p.address = address
	return p
}

func (p report) on(device string) report {
	p.device = device
	return p
}

func states(all ...session.StreamState) []session.StreamState { return all }

const (
	active     = session.StreamActive
	evicted    = session.StreamEvicted
	superseded = session.StreamSuperseded
)

func TestRenewStreams_Scenarios(t *testing.T) {
	t.Parallel()
	newLimiter := newLuaLimiters(t)
	type step struct {
		at      time.Duration
		op      string
		reports []report
		want    []session.StreamState
	}
	renew := func(at time.Duration, want []session.StreamState, reports ...report) step {
		return step{at, "renew", reports, want}
	}
	join := func(at time.Duration, want session.StreamState, c report) step {
		return step{at, "join", []report{c}, states(want)}
	}
	leave := func(at time.Duration, i int) step { return step{at, "leave", []report{{id: idOf(i)}}, nil} }
	const s = time.Second
	tests := map[string]struct {
		policy session.LimitPolicy
		steps  []step
	}{
		"within the grace period all streams play": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1)), join(1*s, active, plays(2, 101, 1)),
			renew(9*s, states(active, active), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"after the grace period the oldest is evicted": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1)), join(1*s, active, plays(2, 101, 1)),
			renew(12*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
			renew(20*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"an evicted stream plays again once a stream is free": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1)), join(1*s, active, plays(2, 101, 1)),
			renew(12*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)), leave(13*s, 2),
			renew(14*s, states(active), plays(1, 100, 1)),
		}},
		"after the grace period the newest is evicted": {session.RejectNew, []step{
			join(0, active, plays(1, 100, 1)), join(1*s, active, plays(2, 101, 1)),
			renew(12*s, states(active, evicted), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"a stream that is no longer used is not evicted": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1)), join(1*s, active, plays(2, 101, 1)),
			renew(12*s, states(active, active), plays(1, 100, 1).silentFor(9*s), plays(2, 101, 1)),
		}},
		"a stream that left does not count": {session.RejectNew, []step{
			join(0, active, plays(1, 100, 1)), join(1*s, active, plays(2, 101, 1)),
			renew(12*s, states(active, evicted), plays(1, 100, 1), plays(2, 101, 1)),
			leave(13*s, 1), join(14*s, active, plays(2, 101, 1)), renew(30*s, states(active), plays(2, 101, 1)),
		}},
		"an idle stream does not count, also if its node died": {session.RejectNew, []step{
			join(0, active, plays(1, 100, 1)), join(50*s, active, plays(2, 150, 1)),
			renew(61*s, states(active), plays(2, 150, 1)), renew(90*s, states(active), plays(2, 150, 1)),
		}},
		"an evicted stream that is idle for long is new": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1)), join(1*s, active, plays(2, 101, 1)),
			renew(12*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
			renew(50*s, states(active), plays(2, 101, 1)), renew(72*s, states(active), plays(2, 101, 1)),
			join(73*s, active, plays(1, 173, 1)), renew(74*s, states(active), plays(2, 101, 1)),
		}},
		"a flush evicts no stream, and the limit holds again after a grace period": {session.EvictOldest, []step{
			renew(0, states(active, active), plays(1, 100, 1), plays(2, 101, 1)),
			renew(11*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"a device plays one stream": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 3).on("box")), join(2*s, active, plays(2, 102, 3).on("box")),
			renew(3*s, states(superseded), plays(1, 100, 3).on("box").silentFor(s)),
			join(4*s, active, plays(1, 104, 3).on("box")), renew(5*s, states(superseded), plays(2, 102, 3).on("box").silentFor(3*s)),
		}},
		"two devices are two": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 2).on("box")), join(1*s, active, plays(2, 101, 2).on("phone")),
			renew(20*s, states(active, active), plays(1, 100, 2).on("box"), plays(2, 101, 2).on("phone")),
		}},
		"zapping at one address": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1).at("home")), join(5*s, active, plays(2, 105, 1).at("home")),
			// The viewer is back on the first stream: the second one is superseded, though it was opened later.
			renew(17*s, states(active, superseded), plays(1, 100, 1).at("home"), plays(2, 105, 1).at("home").silentFor(11*s)),
			renew(40*s, states(active), plays(1, 100, 1).at("home")),
		}},
		"two viewers at one address": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1).at("home")), join(1*s, active, plays(2, 101, 1).at("home")),
			renew(12*s, states(active, active), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			renew(14*s, states(active, active), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			renew(16*s, states(active, active), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			renew(18*s, states(active, active), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			renew(20*s, states(evicted, active), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
		}},
		"a stream that does not play yet does not count": {session.EvictOldest, []step{
			join(0, active, report{id: idOf(1), opened: 100, maxStreams: 1}), join(1*s, active, plays(2, 101, 1)),
			renew(20*s, states(active, active), report{id: idOf(1), opened: 100, maxStreams: 1}, plays(2, 101, 1)),
		}},
		"a lower limit holds after a grace period": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 2)), join(1*s, active, plays(2, 101, 2)),
			renew(30*s, states(active), plays(1, 100, 1)), renew(35*s, states(active), plays(2, 101, 1)),
			renew(41*s, states(evicted, active), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"opened in the same second, one is evicted": {session.EvictOldest, []step{
			join(0, active, plays(1, 100, 1)), join(0, active, plays(2, 100, 1)),
			renew(11*s, states(active, evicted), plays(1, 100, 1), plays(2, 100, 1)),
		}},
	}
	for name, test := range tests {
		for kind, table := range map[string]limiter{
			"Go": newGoLimiter(test.policy), "Lua": newLimiter(t, test.policy, name),
		} {
			t.Run(name+", in "+kind, func(t *testing.T) {
				t.Parallel()
				for i, step := range test.steps {
					got := table.apply(step.op, 1_700_000_000_000+step.at.Milliseconds(), step.reports...)
					if diff := gocmp.Diff(step.want, got.States); diff != "" {
						t.Fatalf("step %d, at %v (-want +got):\n%s", i, step.at, diff)
					}
				}
			})
		}
	}
}

// TestRedis_SameAsStreamSet sends random reports to both implementations, and compares the replies and what is stored.
func TestRedis_SameAsStreamSet(t *testing.T) {
	t.Parallel()
	newLimiter := newLuaLimiters(t)
	users := 0
	rapid.Check(t, func(t *rapid.T) {
		policy := session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy"))
		users++
		ours, theirs := newGoLimiter(policy), newLimiter(t, policy, fmt.Sprint("user", users))
		now := int64(1_700_000_000_000)
		for i := range rapid.IntRange(1, 40).Draw(t, "calls") {
			now += rapid.SampledFrom([]int64{0, 1, 400, 1000, 3000, 10_000, 61_000, -5000}).Draw(t, "passes")
			op := rapid.SampledFrom([]string{"join", "renew", "renew", "renew", "leave"}).Draw(t, "op")
			reports := drawReports(t, op)
			want, got := ours.apply(op, now, slices.Clone(reports)...), theirs.apply(op, now, reports...)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("call %d, %s of %+v at %d (-Go +Lua):\n%s", i, op, reports, now, diff)
			}
			if diff := gocmp.Diff(ours.storedBy(theirs), theirs.stored()); diff != "" {
				t.Fatalf("call %d, %s of %+v at %d leaves (-Go +Lua):\n%s", i, op, reports, now, diff)
			}
		}
	})
}

func drawReports(t *rapid.T, op string) (reports []report) {
	count := 1
	if op == "renew" {
		count = rapid.IntRange(1, 3).Draw(t, "sessions")
	}
	first := rapid.IntRange(0, 5).Draw(t, "session")
	for i := range count {
		reports = append(reports, report{
			id: idOf((first + i) % 6), opened: rapid.Int64Range(1, 5).Draw(t, "opened"),
			age:       rapid.SampledFrom([]int64{0, 200, 1500, 12_000, 70_000}).Draw(t, "age"),
			isPlaying: rapid.IntRange(0, 3).Draw(t, "counted") > 0, maxStreams: rapid.IntRange(1, 3).Draw(t, "max"),
			device:  rapid.SampledFrom([]string{"", "", "box", "phone"}).Draw(t, "device"),
			address: rapid.SampledFrom([]string{"", "home", "work"}).Draw(t, "address"),
		})
	}
	return reports
}

// TestRenewStreams_ExactAfterGracePeriod has several streams of one user that never stop, on nodes whose reports are late and
// whose replies are lost.
func TestRenewStreams_ExactAfterGracePeriod(t *testing.T) {
	t.Parallel()
	newLimiter := newLuaLimiters(t)
	users := 0
	settle := func(t *rapid.T, table limiter, policy session.LimitPolicy) {
		most := rapid.IntRange(1, 4).Draw(t, "max")
		count := rapid.IntRange(1, 9).Draw(t, "viewers")
		standing := make([]session.StreamState, count)
		start, settled := int64(1_700_000_000_000), int64(25_000)
		for now := start; now < start+45_000; now += 500 {
			for i := range count {
				op := "renew"
				if standing[i] != active || now == start {
					op = "join" // the viewer tries again
				}
				if rapid.IntRange(0, 9).Draw(t, "message") == 0 && now > start {
					continue // it is lost
				}
				c := plays(i, int64(100+i), most).silentFor(time.Duration(rapid.IntRange(0, 400).Draw(t, "late")) * time.Millisecond)
				got := table.apply(op, now, c)
				if rapid.IntRange(0, 9).Draw(t, "answer") > 0 {
					standing[i] = got.States[0]
				}
			}
			if now < start+settled {
				continue
			}
			playing := 0
			for i := range count {
				if table.apply("renew", now, plays(i, int64(100+i), most)).States[0] == active {
					playing++
				}
			}
			if want := min(most, count); playing != want {
				t.Fatalf("%v: %d of %d play after %d ms, want %d", policy, playing, count, now-start, want)
			}
		}
	}
	for name, table := range map[string]func(*rapid.T, session.LimitPolicy) limiter{
		"Go": func(_ *rapid.T, p session.LimitPolicy) limiter { return newGoLimiter(p) },
		"Lua": func(t *rapid.T, p session.LimitPolicy) limiter {
			users++
			return newLimiter(t, p, fmt.Sprint("settling", users))
		},
	} {
		t.Run(name, func(t *testing.T) {
			rounds := 0
			rapid.Check(t, func(t *rapid.T) {
				if rounds++; name == "Lua" && rounds > 15 {
					return // the same as Go's, but each call is a round trip
				}
				policy := session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy"))
				settle(t, table(t, policy), policy)
			})
		})
	}
}

// TestStreamSet_Zapping_NeverEvicted has one viewer with a limit of one, who goes from channel to channel and sometimes
// back. A viewer who is on a channel for the third time within half a minute looks like several, and may be evicted.
func TestStreamSet_Zapping_NeverEvicted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := newGoLimiter(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")))
		device := rapid.SampledFrom([]string{"", "box"}).Draw(t, "device")
		start := int64(1_700_000_000_000)
		now, second := start, int64(100)
		seen, opened := map[int]int64{}, map[int]int64{}
		visits := map[int][]int64{}
		for range rapid.IntRange(2, 25).Draw(t, "zaps") {
			channel := rapid.IntRange(0, 6).Draw(t, "channel")
			if last := visits[channel]; len(last) > 1 && now-last[len(last)-2] < 30_000 {
				continue
			}
			visits[channel] = append(visits[channel], now)
			for end := now + int64(rapid.IntRange(1000, 15_000).Draw(t, "watches")); now < end; now += 1000 {
				seen[channel] = now
				op := "renew"
				if opened[channel] == 0 {
					op, opened[channel] = "join", second+(now-start)/1000
				}
				for i := range opened {
					if i != channel {
						op := "renew"
						old := plays(i, opened[i], 1).at("home").on(device).silentFor(time.Duration(now-seen[i]) * time.Millisecond)
						forget(opened, table.apply(op, now, old).Evicted)
					}
				}
				got := table.apply(op, now, plays(channel, opened[channel], 1).at("home").on(device))
				forget(opened, got.Evicted)
				if got.States[0] != active {
					t.Fatalf("channel %d is %v after %d ms", channel, got.States[0], now-start)
				}
			}
		}
	})
}

// forget removes sessions that were evicted: their tickets are refused, and the next request opens them anew.
func forget(opened map[int]int64, evicted []session.EvictedStream) {
	for _, e := range evicted {
		delete(opened, int(e.Session[0]))
	}
}

func FuzzParseResult(f *testing.F) {
	f.Add(int64(0), int64(1), "00", 1)
	f.Fuzz(func(t *testing.T, a, b int64, text string, asked int) {
		if asked < 0 || asked > 100 {
			return
		}
		result, ok := parseResult([]any{a, b, text, b, a}, asked)
		if ok && len(result.States) != asked {
			t.Errorf("%d states, want %d", len(result.States), asked)
		}
	})
}

func BenchmarkRenewStreams(b *testing.B) {
	for _, count := range []int{1, 10, 100} {
		entries := make([]session.StreamEntry, count)
		for i := range entries {
			entries[i] = session.StreamEntry{
				User: "Ann", Session: idOf(i), Opened: time.Now().Add(-5 * time.Minute), LastSeen: time.Now(), IsPlaying: true,
				MaxStreams: count, Address: "192.0.2.7",
			}
		}
		b.Run(fmt.Sprintf("memory/%d", count), func(b *testing.B) {
			l := NewMemory(testRules(session.EvictOldest))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = l.RenewStreams(b.Context(), entries)
			}
		})
		b.Run(fmt.Sprintf("redis/%d", count), func(b *testing.B) {
			server := redistest.Start(b)
			l := NewRedis(newClient(b, server), newCipher(b), testRules(session.EvictOldest))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.RenewStreams(b.Context(), entries); err != nil {
					b.Fatal(err)
				}
			}
			server.ReportScriptTime(b)
		})
	}
}
