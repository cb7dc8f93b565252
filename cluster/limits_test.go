package cluster

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// rules are those of these tests: a window of 10 s, 10 s of silence.
func limitRules(p session.LimitPolicy) session.LimitRules {
	r := testRules
	r.Policy = p
	return r
}

// table is where the sessions of one user are counted, at explicit times in ms.
type limitTable interface {
	tell(op string, now int64, calls ...limitCall) session.LimitResult
}

// inGo is the roster.
type inGo struct {
	*roster
	terms limitTerms
}

func newInGo(p session.LimitPolicy) *inGo { return &inGo{newRoster(), termsOf(limitRules(p))} }

func (g *inGo) tell(op string, now int64, calls ...limitCall) session.LimitResult {
	if op == "leave" {
		g.leave(g.terms, calls[0].id, now)
		return session.LimitResult{}
	}
	calls = slices.Clone(calls) // the script is told of the same ones at the same time
	for i := range calls {
		calls[i].join = op == "join"
	}
	said, _ := g.call(g.terms, calls, now)
	return sorted(said)
}

// inLua is the script.
type inLua struct {
	t     interface{ Fatalf(string, ...any) }
	l     *redisLimits
	clock int64
	user  string
}

func newInLua(t interface{ Fatalf(string, ...any) }, server *redisServer, p session.LimitPolicy, user string) *inLua {
	i := &inLua{t: t, user: user}
	ring, err := newKeyring([]backends.Key{{ID: "a", Secret: "a secret of the cluster"}})
	if err != nil {
		t.Fatalf("%v", err)
	}
	i.l = newRedisLimits(direct{server.client}, keys{"usher"}, ring.userHash, limitRules(p))
	i.l.clock = func() int64 { return i.clock }
	return i
}

func (i *inLua) tell(op string, now int64, calls ...limitCall) session.LimitResult {
	i.clock = now
	if op == "leave" {
		if err := i.l.LeaveStream(context.Background(), i.user, calls[0].id); err != nil {
			i.t.Fatalf("leave: %v", err)
		}
		return session.LimitResult{}
	}
	said, err := i.l.tell(context.Background(), op, i.user, calls)
	if err != nil {
		i.t.Fatalf("%s: %v", op, err)
	}
	return sorted(said)
}

// state is what Redis keeps of the user, each session by its id, and since when the limit is exceeded.
func (i *inLua) state() map[string]string {
	reply, err := i.l.run.run(context.Background(), &script{name: "state", source: `
		local said = {}
		local all = redis.call('HGETALL', KEYS[1])
		for i = 1, #all, 2 do
			local text = all[i + 1]
			if all[i] ~= 'over' then
				local p = cmsgpack.unpack(text)
				for j = 2, 10 do
					p[j] = string.format('%.0f', p[j])
				end
				text = table.concat(p, ' ', 2)
			end
			said[i], said[i + 1] = all[i], text
		end
		return said`}, []string{i.l.keys.user(i.l.hash(i.user))})
	if err != nil {
		i.t.Fatalf("state: %v", err)
	}
	kept := map[string]string{}
	for all := list(reply); len(all) > 1; all = all[2:] {
		kept[text(all[0])] = text(all[1])
	}
	return kept
}

// state is the same of the roster, as the script spells it.
func (g *inGo) state(like *inLua) map[string]string {
	kept := map[string]string{}
	for id, m := range g.members {
		kept[hex.EncodeToString(id[:])] = fmt.Sprint(m.opened, m.seen, m.beat, m.counted, int(m.standing), m.excess, m.mark, m.rounds, m.max) +
			" " + like.l.mark("device", like.user, m.device) + " " + like.l.mark("address", like.user, m.address)
	}
	if g.over > 0 {
		kept["over"] = fmt.Sprint(g.over)
	}
	return kept
}

// sorted puts those who lost their places in an order: which one it is is nobody's business.
func sorted(said session.LimitResult) session.LimitResult {
	slices.SortFunc(said.Evicted, func(a, b session.EvictedStream) int { return cmp.Compare(a.Session.String(), b.Session.String()) })
	return said
}

// plays is what a node says of a session that was opened at that second, whose viewer asked for something just now.
func plays(i int, opened int64, most int) limitCall {
	return limitCall{id: idOf(i), opened: opened, counted: true, max: most, address: fmt.Sprint("192.0.2.", i)}
}

func (c limitCall) silentFor(d time.Duration) limitCall {
	c.age = d.Milliseconds()
	return c
}

func (c limitCall) at(address string) limitCall {
	c.address = address
	return c
}

func (c limitCall) on(device string) limitCall {
	c.device = device
	return c
}

// said are standings, for comparison.
func standings(of ...session.StreamState) []session.StreamState { return of }

const (
	held       = session.StreamActive
	evicted    = session.StreamEvicted
	superseded = session.StreamSuperseded
)

func TestLimits(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	type step struct {
		at    time.Duration
		op    string
		calls []limitCall
		want  []session.StreamState
	}
	hold := func(at time.Duration, want []session.StreamState, calls ...limitCall) step {
		return step{at, "hold", calls, want}
	}
	join := func(at time.Duration, want session.StreamState, c limitCall) step {
		return step{at, "join", []limitCall{c}, standings(want)}
	}
	leave := func(at time.Duration, i int) step { return step{at, "leave", []limitCall{{id: idOf(i)}}, nil} }
	const s = time.Second
	tests := map[string]struct {
		policy session.LimitPolicy
		steps  []step
	}{
		"within the window everybody plays": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1)), join(1*s, held, plays(2, 101, 1)),
			hold(9*s, standings(held, held), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"after the window the oldest goes": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1)), join(1*s, held, plays(2, 101, 1)),
			hold(12*s, standings(evicted, held), plays(1, 100, 1), plays(2, 101, 1)),
			hold(20*s, standings(evicted, held), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"who lost his place has it again once he is alone": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1)), join(1*s, held, plays(2, 101, 1)),
			hold(12*s, standings(evicted, held), plays(1, 100, 1), plays(2, 101, 1)), leave(13*s, 2),
			hold(14*s, standings(held), plays(1, 100, 1)),
		}},
		"or the newest": {session.RejectNew, []step{
			join(0, held, plays(1, 100, 1)), join(1*s, held, plays(2, 101, 1)),
			hold(12*s, standings(held, evicted), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"who stops asking is not evicted, as he is gone": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1)), join(1*s, held, plays(2, 101, 1)),
			hold(12*s, standings(held, held), plays(1, 100, 1).silentFor(9*s), plays(2, 101, 1)),
		}},
		"a place that is given back is free": {session.RejectNew, []step{
			join(0, held, plays(1, 100, 1)), join(1*s, held, plays(2, 101, 1)),
			hold(12*s, standings(held, evicted), plays(1, 100, 1), plays(2, 101, 1)),
			leave(13*s, 1), join(14*s, held, plays(2, 101, 1)), hold(30*s, standings(held), plays(2, 101, 1)),
		}},
		"a place ends with its viewer's silence, also if its node died": {session.RejectNew, []step{
			join(0, held, plays(1, 100, 1)), join(50*s, held, plays(2, 150, 1)),
			hold(61*s, standings(held), plays(2, 150, 1)), hold(90*s, standings(held), plays(2, 150, 1)),
		}},
		"who was evicted and stays away for long is new": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1)), join(1*s, held, plays(2, 101, 1)),
			hold(12*s, standings(evicted, held), plays(1, 100, 1), plays(2, 101, 1)),
			hold(50*s, standings(held), plays(2, 101, 1)), hold(72*s, standings(held), plays(2, 101, 1)),
			join(73*s, held, plays(1, 173, 1)), hold(74*s, standings(held), plays(2, 101, 1)),
		}},
		"a flush refuses nobody, and the limit holds again after a window": {session.EvictOldest, []step{
			hold(0, standings(held, held), plays(1, 100, 1), plays(2, 101, 1)),
			hold(11*s, standings(evicted, held), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"a device plays one stream": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 3).on("box")), join(2*s, held, plays(2, 102, 3).on("box")),
			hold(3*s, standings(superseded), plays(1, 100, 3).on("box").silentFor(s)),
			join(4*s, held, plays(1, 104, 3).on("box")), hold(5*s, standings(superseded), plays(2, 102, 3).on("box").silentFor(3*s)),
		}},
		"two devices are two": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 2).on("box")), join(1*s, held, plays(2, 101, 2).on("phone")),
			hold(20*s, standings(held, held), plays(1, 100, 2).on("box"), plays(2, 101, 2).on("phone")),
		}},
		"who zaps at one address keeps what he watches": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1).at("home")), join(5*s, held, plays(2, 105, 1).at("home")),
			// He is back on the first: the second one is the zapped one, though it was opened later.
			hold(17*s, standings(held, superseded), plays(1, 100, 1).at("home"), plays(2, 105, 1).at("home").silentFor(11*s)),
			hold(40*s, standings(held), plays(1, 100, 1).at("home")),
		}},
		"who watches twice at one address does not zap": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1).at("home")), join(1*s, held, plays(2, 101, 1).at("home")),
			hold(12*s, standings(held, held), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			hold(14*s, standings(held, held), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			hold(16*s, standings(held, held), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			hold(18*s, standings(held, held), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
			hold(20*s, standings(evicted, held), plays(1, 100, 1).at("home"), plays(2, 101, 1).at("home")),
		}},
		"who has not begun to play takes no place": {session.EvictOldest, []step{
			join(0, held, limitCall{id: idOf(1), opened: 100, max: 1}), join(1*s, held, plays(2, 101, 1)),
			hold(20*s, standings(held, held), limitCall{id: idOf(1), opened: 100, max: 1}, plays(2, 101, 1)),
		}},
		"a limit that is lowered holds after a window": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 2)), join(1*s, held, plays(2, 101, 2)),
			hold(30*s, standings(held), plays(1, 100, 1)), hold(35*s, standings(held), plays(2, 101, 1)),
			hold(41*s, standings(evicted, held), plays(1, 100, 1), plays(2, 101, 1)),
		}},
		"opened in the same second, one goes": {session.EvictOldest, []step{
			join(0, held, plays(1, 100, 1)), join(0, held, plays(2, 100, 1)),
			hold(11*s, standings(held, evicted), plays(1, 100, 1), plays(2, 100, 1)),
		}},
	}
	for name, test := range tests {
		for kind, table := range map[string]limitTable{
			"Go": newInGo(test.policy), "Lua": newInLua(t, server, test.policy, name),
		} {
			t.Run(name+", in "+kind, func(t *testing.T) {
				t.Parallel()
				for i, step := range test.steps {
					got := table.tell(step.op, 1_700_000_000_000+step.at.Milliseconds(), step.calls...)
					if diff := gocmp.Diff(step.want, got.States); diff != "" {
						t.Fatalf("step %d, at %v (-want +got):\n%s", i, step.at, diff)
					}
				}
			})
		}
	}
}

// TestLuaIsGo tells both the same, whatever it is, and wants the same answers, and the same to be kept.
func TestLuaIsGo(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	users := 0
	rapid.Check(t, func(t *rapid.T) {
		policy := session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy"))
		users++
		ours, theirs := newInGo(policy), newInLua(t, server, policy, fmt.Sprint("user", users))
		now := int64(1_700_000_000_000)
		for i := range rapid.IntRange(1, 40).Draw(t, "calls") {
			now += rapid.SampledFrom([]int64{0, 1, 400, 1000, 3000, 10_000, 61_000, -5000}).Draw(t, "passes")
			op := rapid.SampledFrom([]string{"join", "hold", "hold", "hold", "leave"}).Draw(t, "op")
			calls := drawCalls(t, op)
			want, got := ours.tell(op, now, slices.Clone(calls)...), theirs.tell(op, now, calls...)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("call %d, %s of %+v at %d (-Go +Lua):\n%s", i, op, calls, now, diff)
			}
			if diff := gocmp.Diff(ours.state(theirs), theirs.state()); diff != "" {
				t.Fatalf("call %d, %s of %+v at %d leaves (-Go +Lua):\n%s", i, op, calls, now, diff)
			}
		}
	})
}

func drawCalls(t *rapid.T, op string) (calls []limitCall) {
	count := 1
	if op == "hold" {
		count = rapid.IntRange(1, 3).Draw(t, "sessions")
	}
	first := rapid.IntRange(0, 5).Draw(t, "session")
	for i := range count {
		calls = append(calls, limitCall{
			id: idOf((first + i) % 6), opened: rapid.Int64Range(1, 5).Draw(t, "opened"),
			age:     rapid.SampledFrom([]int64{0, 200, 1500, 12_000, 70_000}).Draw(t, "age"),
			counted: rapid.IntRange(0, 3).Draw(t, "counted") > 0, max: rapid.IntRange(1, 3).Draw(t, "max"),
			device:  rapid.SampledFrom([]string{"", "", "box", "phone"}).Draw(t, "device"),
			address: rapid.SampledFrom([]string{"", "home", "work"}).Draw(t, "address"),
		})
	}
	return calls
}

// TestTheLimitHoldsOnceThingsSettle has viewers of one user who never stop asking, on nodes whose messages are late, or
// whose answers are lost.
func TestTheLimitHoldsOnceThingsSettle(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	users := 0
	settle := func(t *rapid.T, table limitTable, policy session.LimitPolicy) {
		most := rapid.IntRange(1, 4).Draw(t, "max")
		count := rapid.IntRange(1, 9).Draw(t, "viewers")
		standing := make([]session.StreamState, count)
		start, settled := int64(1_700_000_000_000), int64(25_000)
		for now := start; now < start+45_000; now += 500 {
			for i := range count {
				op := "hold"
				if standing[i] != held || now == start {
					op = "join" // he tries again
				}
				if rapid.IntRange(0, 9).Draw(t, "message") == 0 && now > start {
					continue // it is lost
				}
				c := plays(i, int64(100+i), most).silentFor(time.Duration(rapid.IntRange(0, 400).Draw(t, "late")) * time.Millisecond)
				got := table.tell(op, now, c)
				if rapid.IntRange(0, 9).Draw(t, "answer") > 0 {
					standing[i] = got.States[0]
				}
			}
			if now < start+settled {
				continue
			}
			playing := 0
			for i := range count {
				if table.tell("hold", now, plays(i, int64(100+i), most)).States[0] == held {
					playing++
				}
			}
			if want := min(most, count); playing != want {
				t.Fatalf("%v: %d of %d play after %d ms, want %d", policy, playing, count, now-start, want)
			}
		}
	}
	for name, table := range map[string]func(*rapid.T, session.LimitPolicy) limitTable{
		"Go": func(_ *rapid.T, p session.LimitPolicy) limitTable { return newInGo(p) },
		"Lua": func(t *rapid.T, p session.LimitPolicy) limitTable {
			users++
			return newInLua(t, server, p, fmt.Sprint("settling", users))
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

// TestWhoZapsIsNeverRefused has one viewer with a limit of one, who goes from channel to channel and now and then back. Who
// is on a channel for the third time within half a minute looks like several viewers, and may be taken for that.
func TestWhoZapsIsNeverRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := newInGo(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")))
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
				op := "hold"
				if opened[channel] == 0 {
					op, opened[channel] = "join", second+(now-start)/1000
				}
				for i := range opened {
					if i != channel {
						op := "hold"
						old := plays(i, opened[i], 1).at("home").on(device).silentFor(time.Duration(now-seen[i]) * time.Millisecond)
						lose(opened, table.tell(op, now, old).Evicted)
					}
				}
				got := table.tell(op, now, plays(channel, opened[channel], 1).at("home").on(device))
				lose(opened, got.Evicted)
				if got.States[0] != held {
					t.Fatalf("channel %d is %v after %d ms", channel, got.States[0], now-start)
				}
			}
		}
	})
}

// lose forgets sessions that lost their places: their tickets are refused, and whoever comes back opens them anew.
func lose(opened map[int]int64, cut []session.EvictedStream) {
	for _, c := range cut {
		delete(opened, int(c.Session[0]))
	}
}

func FuzzParseLimited(f *testing.F) {
	f.Add(int64(0), int64(1), "00", 1)
	f.Fuzz(func(t *testing.T, a, b int64, text string, asked int) {
		if asked < 0 || asked > 100 {
			return
		}
		said, ok := parseLimited([]any{a, b, text, b, a}, asked)
		if ok && len(said.States) != asked {
			t.Errorf("%d standings, want %d", len(said.States), asked)
		}
	})
}

func BenchmarkHold(b *testing.B) {
	for _, members := range []int{1, 10, 100} {
		of := make([]session.StreamEntry, members)
		for i := range of {
			of[i] = membership(i, "Ann")
			of[i].Device, of[i].MaxStreams = "", members
		}
		b.Run(fmt.Sprintf("memory/%d", members), func(b *testing.B) {
			l := newMemoryLimits(testRules)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = l.RenewStreams(b.Context(), of)
			}
		})
		b.Run(fmt.Sprintf("redis/%d", members), func(b *testing.B) {
			server := startRedis(b)
			s := newStore(b, testConfig(server), nil)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.RenewStreams(b.Context(), of); err != nil {
					b.Fatal(err)
				}
			}
			server.reportWork(b)
		})
	}
}
