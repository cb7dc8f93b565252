package plan_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"usher/bench/plan"
)

func demand(viewers int) plan.Demand {
	return plan.Demand{
		Viewers: viewers, Validity: 180 * time.Second, Segment: 4 * time.Second, Bitrate: 6e6, Ramp: 10 * time.Minute, Heartbeat: 20 * time.Second,
		IdleTimeout: time.Minute, ExtraLifetime: time.Minute, SessionTTL: 30 * time.Minute,
	}
}

func machine() plan.Machine {
	return plan.Machine{Cores: 32, Memory: 64e9, Network: 25e9, MaxSessions: 1_200_000, Headroom: 0.3, Spare: 1}
}

// roundCosts are costs that a reader can reckon with.
func roundCosts() plan.Costs {
	return plan.Costs{
		Version: 1, Machine: "a table", Playlist: 40, Segment: 40, SegmentMegabyte: 200, Opening: 300, Recheck: 180, Heartbeat: 2, AuthQuestion: 36,
		LimitedHeartbeat: 10, OpeningAlone: 200, RecheckAlone: 100,
		RedisOpening: 30, RedisRecheck: 18, RedisHeartbeat: 2, RedisLimitedHeartbeat: 10,
		Node: 1e8, Session: 3000, Connection: 20_000, RedisSession: 1000,
	}
}

func TestMake(t *testing.T) {
	got, err := plan.Make(demand(1_800_000), machine(), roundCosts())
	if err != nil {
		t.Fatal(err)
	}
	// 1.8 M viewers at 6 Mbit/s are 10.8 Tbit/s; a node has 17.5 Gbit/s to plan with: 618 nodes.
	want := []plan.Bound{
		// 450,000 playlists and segments a second at 40 µs, 1.35 TB/s at 200 µs a megabyte, 3,000 openings at 300 µs, 10,000
		// re-checks, of which each comes 5 % early, at 180 µs, 90,000 heartbeats at 2 µs: 36 + 270 + 0.9 + 1.8/0.95 + 0.18 cores.
		{Name: "cpu", Need: 307.08 + 1.8/0.95, PerNode: 22.4, Unit: "cores", Nodes: 14},
		{Name: "network", Need: 10.8e12, PerNode: 17.5e9, Unit: "bit/s", Nodes: 618},
		{Name: "memory", Need: 41.4e9, PerNode: 44.7e9, Unit: "bytes", Nodes: 1},
		{Name: "sessions.max", Need: 1.8e6, PerNode: 1.2e6, Unit: "sessions", Nodes: 2},
	}
	round := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(a, b) })
	if diff := cmp.Diff(want, got.Bounds, round); diff != "" {
		t.Errorf("bounds (-want +got):\n%s", diff)
	}
	if got.Nodes != 619 || got.First != "network" || math.Round(got.Calls) != 10_526 || math.Round(got.CallsWhenFull) != 13_526 || got.RedisServers != 1 {
		t.Errorf("%d nodes by %s, %v calls/s, %v at the ramp, %d Redis servers; want 619 by network, 10526, 13526, 1",
			got.Nodes, got.First, got.Calls, got.CallsWhenFull, got.RedisServers)
	}
}

// TestMake_Edge needs neither bandwidth nor connections, because other servers serve the media.
func TestMake_Edge(t *testing.T) {
	d := demand(10_000_000)
	d.IsEdge = true
	for _, want := range []struct {
		keepsAnswers bool
		questions    float64 // a second
		first        string
	}{
		{false, 5_000_000, "cpu"}, // a playlist and a segment every four seconds
		{true, 10_000_000.0 / 180, "sessions.max"},
	} {
		d.EdgeKeepsAnswers = want.keepsAnswers
		got, err := plan.Make(d, machine(), roundCosts())
		if err != nil || got.First != want.first || got.Nodes != 10 {
			t.Errorf("keeps answers %t: %d nodes by %s, %v; want 10 by %s", want.keepsAnswers, got.Nodes, got.First, err, want.first)
		}
		if p := got.Products[0]; p.Name != "questions of edges" || math.Abs(p.Count-want.questions) > 1e-6 {
			t.Errorf("keeps answers %t: %v of %s, want %v questions", want.keepsAnswers, p.Count, p.Name, want.questions)
		}
	}
}

func TestMake_WithoutRedis(t *testing.T) {
	d := demand(1_800_000)
	d.WithoutRedis = true
	got, err := plan.Make(d, machine(), roundCosts())
	if err != nil || got.RedisServers != 0 || math.Round(got.Calls) != 10_526 || got.RecheckRate != 10_527 {
		t.Fatalf("%d Redis servers, %v calls/s, recheck_rate %d, %v; want none, 10526, 10527", got.RedisServers, got.Calls, got.RecheckRate, err)
	}
	// As TestMake, with 3,000 openings at 200 µs, 10,526 re-checks at 100 µs, and no heartbeats.
	if cpu := got.Bounds[0].Need; math.Abs(cpu-(306.6+1/0.95)) > 1e-9 {
		t.Errorf("%v cores, want 307.65", cpu)
	}
}

// TestMake_FewViewers needs one node for each bound. The first is the one that is nearest.
func TestMake_FewViewers(t *testing.T) {
	got, err := plan.Make(demand(1000), machine(), roundCosts())
	if err != nil || got.First != "network" || got.Nodes != 2 {
		t.Errorf("%d nodes by %s, %v; want 2 by network", got.Nodes, got.First, err)
	}
}

// TestMake_RedisMemory needs servers for what Redis keeps.
func TestMake_RedisMemory(t *testing.T) {
	m := machine()
	m.Memory = 2e9
	got, err := plan.Make(demand(7_000_000), m, roundCosts())
	if err != nil || got.RedisServers != 5 { // 7 GB, 1.4 GB each
		t.Errorf("%d Redis servers, %v; want 5", got.RedisServers, err)
	}
}

// TestMake_Zaps has each viewer leave four channels an hour: each stays a session for a minute, at an edge for the validity of three and one
// more, and a record in Redis for 33.
func TestMake_Zaps(t *testing.T) {
	for name, tt := range map[string]struct {
		zaps          float64
		edit          func(*plan.Demand)
		sessions      float64
		memory, redis float64
	}{
		"none":                       {0, func(*plan.Demand) {}, 600_000, 600_000*3000 + 600_000*20_000, 600_000 * 1000},
		"four":                       {4, func(*plan.Demand) {}, 640_000, 640_000*3000 + 600_000*20_000, (600_000 + 40_000*33) * 1000},
		"at edges":                   {4, func(d *plan.Demand) { d.IsEdge = true }, 760_000, 760_000 * 3000, (600_000+40_000*33)*1000 + (600_000+20*60_000)*700},
		"at edges that keep answers": {4, func(d *plan.Demand) { d.IsEdge, d.EdgeKeepsAnswers = true, true }, 760_000, 760_000 * 3000, (600_000 + 40_000*33) * 1000},
		"without redis":              {4, func(d *plan.Demand) { d.WithoutRedis = true }, 640_000, 640_000*3000 + 600_000*20_000, 0},
	} {
		d := demand(600_000)
		d.ZapsPerHour = tt.zaps
		tt.edit(&d)
		got, err := plan.Make(d, machine(), roundCosts())
		if err != nil {
			t.Fatal(err)
		}
		redis := 0.0
		for _, one := range got.Products {
			if one.Of == "redis memory" {
				redis += one.Value
			}
		}
		memory, sessions := got.Bounds[2].Need, got.Bounds[3].Need
		if math.Abs(sessions-tt.sessions) > 1e-3 || math.Abs(memory-tt.memory) > 1 || math.Abs(redis-tt.redis) > 1 {
			t.Errorf("%s: %v sessions, %v bytes, %v of Redis; want %v, %v, %v", name, sessions, memory, redis, tt.sessions, tt.memory, tt.redis)
		}
	}
}

// TestMake_RecheckRate renews what a million viewers watch, at a mean of 95 % of the validity, and the channels that they have left.
func TestMake_RecheckRate(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*plan.Demand)
		want int
	}{
		"no zaps":          {func(*plan.Demand) {}, 5848},
		"four zaps":        {func(d *plan.Demand) { d.ZapsPerHour = 4 }, 6238},
		"four at edges":    {func(d *plan.Demand) { d.ZapsPerHour, d.IsEdge = 4, true }, 7408},
		"a longer lasting": {func(d *plan.Demand) { d.Validity *= 10 }, 585},
	} {
		d := demand(1_000_000)
		tt.edit(&d)
		if got, err := plan.Make(d, machine(), roundCosts()); err != nil || got.RecheckRate != tt.want {
			t.Errorf("%s: recheck_rate %d, %v; want %d", name, got.RecheckRate, err, tt.want)
		}
	}
}

func TestMake_Errors(t *testing.T) {
	for want, edit := range map[string]func(*plan.Demand, *plan.Machine){
		"viewers: 0, want more than 0":               func(d *plan.Demand, _ *plan.Machine) { d.Viewers = 0 },
		"validity: 1ms, want at least 1s":            func(d *plan.Demand, _ *plan.Machine) { d.Validity = time.Millisecond },
		"bitrate: +Inf, want more than 0":            func(d *plan.Demand, _ *plan.Machine) { d.Bitrate = math.Inf(1) },
		"extra-lifetime: -1s, want 0s or more":       func(d *plan.Demand, _ *plan.Machine) { d.ExtraLifetime = -time.Second },
		"idle-timeout: -1s, want 0s or more":         func(d *plan.Demand, _ *plan.Machine) { d.IdleTimeout = -time.Second },
		"session-ttl: -1s, want 0s or more":          func(d *plan.Demand, _ *plan.Machine) { d.SessionTTL = -time.Second },
		"limited: 1.5, want 0 to 1":                  func(d *plan.Demand, _ *plan.Machine) { d.Limited = 1.5 },
		"edge-keeps-answers: true without edge":      func(d *plan.Demand, _ *plan.Machine) { d.EdgeKeepsAnswers = true },
		"headroom: 1, want 0 to less than 1":         func(_ *plan.Demand, m *plan.Machine) { m.Headroom = 1 },
		"memory: 100000000 with a headroom of 0.3, ": func(_ *plan.Demand, m *plan.Machine) { m.Memory = 1e8 },
	} {
		d, m := demand(1000), machine()
		edit(&d, &m)
		if _, err := plan.Make(d, m, roundCosts()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestMake_Properties: more viewers never need less, and no bound is left out.
func TestMake_Properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := demand(rapid.IntRange(1, 20_000_000).Draw(t, "viewers"))
		d.Bitrate = rapid.Float64Range(1e5, 2e7).Draw(t, "bitrate")
		d.Limited = rapid.Float64Range(0, 1).Draw(t, "limited")
		d.IsEdge = rapid.Bool().Draw(t, "edge")
		d.EdgeKeepsAnswers = d.IsEdge && rapid.Bool().Draw(t, "keeps answers")
		few, err := plan.Make(d, machine(), roundCosts())
		if err != nil {
			t.Fatal(err)
		}
		d.Viewers += rapid.IntRange(0, 1_000_000).Draw(t, "more")
		many, err := plan.Make(d, machine(), roundCosts())
		if err != nil {
			t.Fatal(err)
		}
		if many.Nodes < few.Nodes || many.RedisServers < few.RedisServers || many.Calls < few.Calls {
			t.Fatalf("more viewers need less: %+v, %+v", few, many)
		}
		for _, b := range many.Bounds {
			if have := float64(many.Nodes-1) * b.PerNode; have < b.Need*(1-1e-9) {
				t.Fatalf("%d nodes without the spare one offer %v of %s, want %v", many.Nodes-1, have, b.Name, b.Need)
			}
		}
	})
}

func TestReference(t *testing.T) {
	c, err := plan.Reference()
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(demand(10_000_000), machine(), c)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := p.Print(&out, 1, c); err != nil || !strings.Contains(out.String(), "bounded by network") || !strings.Contains(out.String(), c.Machine) {
		t.Errorf("%v, the plan is\n%s", err, out.String())
	}
}

// TestMake_Limited adds heartbeats of a tenth of the users: 9,000 a second, 10 µs of a node and 10 µs of Redis each.
func TestMake_Limited(t *testing.T) {
	d := demand(1_800_000)
	d.Limited = 0.1
	got, err := plan.Make(d, machine(), roundCosts())
	if err != nil || math.Abs(got.Bounds[0].Need-(307.17+1.8/0.95)) > 1e-9 {
		t.Errorf("%v cores, %v; want 309.06", got.Bounds[0].Need, err)
	}
	for _, one := range got.Products {
		if one.Name == "heartbeats of users with a limit" && math.Abs(one.Value-0.09) > 1e-9 {
			t.Errorf("%s: %v cores, want 0.09", one.Of, one.Value)
		}
	}
}

// TestCosts_Estimates: what was not measured is marked in the plan until it is.
func TestCosts_Estimates(t *testing.T) {
	c := roundCosts()
	c.Sources = map[string]string{}
	for _, name := range plan.Names() {
		c.Set(name, c.Value(name)+1, "measured")
	}
	c.SetEstimates([]string{"playlist_us", "recheck_us"}, "a reason")
	delete(c.Sources, "session_bytes")
	var file strings.Builder
	if err := c.Write(&file); err != nil {
		t.Fatal(err)
	}
	read, err := plan.ReadCosts(strings.NewReader(file.String()))
	if diff := cmp.Diff(c, read); err != nil || diff != "" {
		t.Fatalf("%v, read back (-want +got):\n%s", err, diff)
	}
	p, err := plan.Make(demand(1000), machine(), read)
	var out strings.Builder
	if err := errors.Join(err, p.Print(&out, 1, read)); err != nil {
		t.Fatal(err)
	}
	const want = `Not measured: playlist_us (estimate: a reason; of a table).
Not measured: recheck_us (estimate: a reason; of a table).
Not measured: session_bytes (estimate).
`
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("the plan is\n%s\nwant at its end\n%s", out.String(), want)
	}
}

func TestReadCosts_Errors(t *testing.T) {
	for text, want := range map[string]string{
		"{": "unexpected end", `{"version": 2}`: "version 2, want 1", `{"version": 1}`: "playlist_us: 0, want more than 0",
	} {
		if _, err := plan.ReadCosts(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
