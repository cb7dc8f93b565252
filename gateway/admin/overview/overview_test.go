package overview_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/backends"
	"usher/gateway/admin/overview"
)

// start is the beginning of an interval.
var start = time.Unix(1_800_000_000, 0)

// at returns a time of an interval.
func at(interval int) time.Time { return start.Add(time.Duration(interval) * overview.Interval) }

func decision(v backends.Verdict, s backends.Source) *backends.Decision {
	return &backends.Decision{Verdict: v, Source: s}
}

// open counts openings of allowed sessions.
func open(c *overview.Counters, count int, s backends.Source) {
	for range count {
		c.Opened()
		c.Decided(nil, decision(backends.Allowed, s))
	}
}

// follow has the counters count breakers of these backends, and returns the first.
func follow(c *overview.Counters, backends ...string) *overview.Breaker {
	all := map[string]*overview.Breaker{}
	for _, name := range backends {
		all[name] = c.NewBreaker()
	}
	c.SetBreakers(all)
	return all[backends[0]]
}

func TestJoin_TwoNodes(t *testing.T) {
	t.Parallel()
	a, b := overview.NewCounters(), overview.NewCounters()
	portal := follow(a, "portal")
	follow(b, "portal", "local")
	a.Sample(at(0))
	b.Sample(at(0))
	open(a, 10, backends.FromBackend)
	open(b, 5, backends.FromFailOpen)
	portal.Note(backends.BreakerOpen)
	portal.Note(backends.BreakerHalfOpen) // between two samples
	a.Sample(at(1))
	b.Sample(at(1))
	a.Decided(decision(backends.Allowed, backends.FromBackend), decision(backends.Denied, backends.FromBackend))
	a.Sample(at(2))
	b.Sample(at(2))
	b.Decided(decision(backends.Allowed, backends.FromFailOpen), nil)
	b.Sample(at(3)) // ahead of a, so that this interval is not complete
	got := overview.Join(at(3), map[string][]byte{"a": a.Node(), "b": b.Node(), "odd": []byte("{")}, []string{"silent"})
	want := overview.Overview{
		Time: at(3).UTC(), OpeningsPerSecond: 0, DenialsPerSecond: 0.2, FailOpenShare: 4.0 / 14, UnverifiedShare: 4.0 / 14, IntervalSeconds: 5,
		Series: overview.Series{
			Openings: []float64{0, 3, 0}, Denials: []float64{0, 0, 0.2}, FailOpenShare: []float64{0, 5.0 / 15, 5.0 / 15},
		},
		Backends: []overview.Backend{
			{Name: "local", Breaker: "closed", Nodes: map[string]string{"b": "closed"}, History: "ccc"},
			{Name: "portal", Breaker: "half-open", Nodes: map[string]string{"a": "half-open", "b": "closed"}, History: "coh"},
		},
		Nodes: []string{"a", "b"}, UnreachableNodes: []string{"odd", "silent"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("overview (-want +got):\n%s", diff)
	}
}

func TestJoin_NodeAlone_ShowsItsLastInterval(t *testing.T) {
	t.Parallel()
	c := overview.NewCounters()
	c.Sample(at(0))
	open(c, 20, backends.FromCached)
	c.Sample(at(1))
	got := overview.Join(at(1), map[string][]byte{"": c.Node()}, nil)
	if got.OpeningsPerSecond != 4 || got.UnverifiedShare != 1 || got.FailOpenShare != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestJoin_Nobody(t *testing.T) {
	t.Parallel()
	want := overview.Overview{
		Time: start.UTC(), IntervalSeconds: 5, Backends: []overview.Backend{},
		Series: overview.Series{Openings: []float64{}, Denials: []float64{}, FailOpenShare: []float64{}},
	}
	if diff := cmp.Diff(want, overview.Join(start, nil, nil)); diff != "" {
		t.Errorf("overview (-want +got):\n%s", diff)
	}
}

func TestJoin_ImplausibleReply_CountsAsSilent(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"no JSON":               "x",
		"uneven series":         `{"last":1,"samples":[[1],[],[],[]]}`,
		"a series too long":     `{"last":1,"samples":[[` + strings.Repeat("1,", overview.Kept) + `1],[],[],[]]}`,
		"a history too long":    `{"last":1,"samples":[[],[],[],[]],"breakers":{"b":{"history":"` + strings.Repeat("c", overview.Kept+1) + `"}}}`,
		"a text for the sample": `{"last":"1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := overview.Join(start, map[string][]byte{"n": []byte(reply)}, nil)
			if diff := cmp.Diff([]string{"n"}, got.UnreachableNodes); diff != "" {
				t.Errorf("unreachable nodes (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzJoin joins what any node of another version may tell.
func FuzzJoin(f *testing.F) {
	c := overview.NewCounters()
	follow(c, "portal").Note(backends.BreakerOpen)
	open(c, 3, backends.FromFailOpen)
	for i := range 3 {
		c.Sample(at(i))
	}
	f.Add([]byte(`{"last":-9223372036854775808,"samples":[[1],[1],[1],[1]],"breakers":{"b":{"state":"x","history":"?"}}}`), int64(1))
	f.Add(c.Node(), int64(0))
	f.Fuzz(func(t *testing.T, reply []byte, ahead int64) {
		own := overview.NewCounters()
		own.Sample(start.Add(time.Duration(ahead%1000) * overview.Interval))
		got := overview.Join(start, map[string][]byte{"a": reply, "b": own.Node()}, nil)
		if n := len(got.Series.Openings); n > overview.Kept || len(got.Series.Denials) != n || len(got.Series.FailOpenShare) != n {
			t.Errorf("series of %d, %d and %d values", n, len(got.Series.Denials), len(got.Series.FailOpenShare))
		}
		for _, b := range got.Backends {
			if len(b.History) != len(got.Series.Openings) {
				t.Errorf("backend %q has %d states of %d", b.Name, len(b.History), len(got.Series.Openings))
			}
		}
	})
}

func TestCounters_Sample_KeepsTenMinutes(t *testing.T) {
	t.Parallel()
	c := overview.NewCounters()
	portal := follow(c, "portal")
	for i := range overview.Kept + 10 {
		open(c, 5, backends.FromBackend)
		c.Sample(at(i))
		c.Sample(at(i)) // no second one in an interval
	}
	portal.Note(backends.BreakerOpen)
	open(c, 50, backends.FromBackend)
	c.Sample(at(overview.Kept + 12)) // two were missed
	got := overview.Join(start, map[string][]byte{"": c.Node()}, nil)
	if n := len(got.Series.Openings); n != overview.Kept {
		t.Fatalf("%d samples, want %d", n, overview.Kept)
	}
	if diff := cmp.Diff([]float64{1, 0, 0, 10}, got.Series.Openings[overview.Kept-4:]); diff != "" {
		t.Errorf("openings (-want +got):\n%s", diff)
	}
	if got := got.Backends[0].History; len(got) != overview.Kept || !strings.HasSuffix(got, "cooo") {
		t.Errorf("history %q", got)
	}
	c.Sample(at(overview.Kept * 9)) // the machine slept
	got = overview.Join(start, map[string][]byte{"": c.Node()}, nil)
	if n := len(got.Series.Openings); n != overview.Kept {
		t.Errorf("%d samples after a long sleep, want %d", n, overview.Kept)
	}
}

// TestCounters_Sample_ClockSetBack begins anew once the clock shows an earlier time, unless it is as good as the same.
func TestCounters_Sample_ClockSetBack(t *testing.T) {
	t.Parallel()
	c := overview.NewCounters()
	portal := follow(c, "portal")
	series := func() overview.Overview { return overview.Join(start, map[string][]byte{"": c.Node()}, nil) }
	for i := range 3 {
		c.Sample(at(i))
	}
	c.Sample(at(1))
	if n := len(series().Series.Openings); n != 3 {
		t.Errorf("%d samples after a step back by an interval, want 3", n)
	}
	portal.Note(backends.BreakerOpen)
	for i := range 2 {
		open(c, 5*(i+1), backends.FromBackend)
		c.Sample(at(i - 720)) // an hour ago
	}
	got := series()
	if diff := cmp.Diff([]float64{1, 2}, got.Series.Openings); diff != "" || got.Backends[0].History != "oo" {
		t.Errorf("history %q, openings (-want +got):\n%s", got.Backends[0].History, diff)
	}
}

// TestJoin_FastClock shows the rates of the nodes whose clocks are right.
func TestJoin_FastClock(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ahead int
		want  []float64
	}{
		"by two intervals": {2, []float64{2}},
		"by an hour":       {720, []float64{1, 2}},
	} {
		right, fast := overview.NewCounters(), overview.NewCounters()
		right.Sample(at(0))
		for i := range 3 {
			open(right, 5*(i+1), backends.FromBackend)
			right.Sample(at(i + 1))
			fast.Sample(at(i + 1 + test.ahead))
		}
		got := overview.Join(at(3), map[string][]byte{"right": right.Node(), "fast": fast.Node()}, nil)
		if openings := got.Series.Openings; len(openings) < len(test.want) || !cmp.Equal(test.want, openings[len(openings)-len(test.want):]) {
			t.Errorf("%s: openings %v, want %v in the end", name, openings, test.want)
		}
	}
}

// TestCounters_SetBreakers counts the breakers that were set last: one that is made changes nothing, and one that is gone is not kept.
func TestCounters_SetBreakers(t *testing.T) {
	t.Parallel()
	c := overview.NewCounters()
	shown := func() map[string]string {
		states := map[string]string{}
		for _, b := range overview.Join(start, map[string][]byte{"": c.Node()}, nil).Backends {
			states[b.Name] = b.Breaker
		}
		return states
	}
	portal, gone := c.NewBreaker(), c.NewBreaker()
	c.SetBreakers(map[string]*overview.Breaker{"portal": portal, "gone": gone})
	next := c.NewBreaker() // of settings that may be refused
	portal.Note(backends.BreakerOpen)
	if diff := cmp.Diff(map[string]string{"portal": "open", "gone": "closed"}, shown()); diff != "" {
		t.Errorf("before the next is set (-want +got):\n%s", diff)
	}
	c.SetBreakers(map[string]*overview.Breaker{"portal": next})
	portal.Note(backends.BreakerHalfOpen)
	gone.Note(backends.BreakerOpen)
	if diff := cmp.Diff(map[string]string{"portal": "closed"}, shown()); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
}

func TestCounters_Run_SamplesEveryInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := overview.NewCounters()
		go c.Run(ctx)
		<-time.After(2*overview.Interval + time.Millisecond)
		cancel()
		synctest.Wait()
		if n := len(overview.Join(start, map[string][]byte{"": c.Node()}, nil).Series.Openings); n != 3 {
			t.Errorf("%d samples after two intervals, want 3", n)
		}
	})
}
