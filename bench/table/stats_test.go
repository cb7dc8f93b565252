package table

import (
	"math"
	"os/exec"
	"strings"
	"testing"
	"time"

	"usher/bench/load"
	"usher/bench/peers"
	"usher/bench/process"
)

func rates(all ...float64) []sample {
	samples := make([]sample, len(all))
	for i, r := range all {
		samples[i] = sample{perSecond: r, p99: time.Duration(r) * time.Millisecond, cpu: time.Microsecond}
	}
	return samples
}

func TestMedianOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all  []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{7}, 7}} {
		if got := medianOf(c.all); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.all, got, c.want)
		}
	}
	if got := medianOf(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: %v", got)
	}
}

// TestCompare_RangeIsOfRounds has rounds whose ratios are not those of the least and the greatest values.
func TestCompare_RangeIsOfRounds(t *testing.T) {
	t.Parallel()
	got := compare(rates(10, 40, 30), rates(10, 20, 60), perSecond)
	if want := (ratio{median: 1.5, least: 0.5, most: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got.String() != "1.50 (0.50–2.00)" {
		t.Errorf("%s", got)
	}
	if one := compare(rates(10), rates(20), perSecond); one.String() != "0.50" {
		t.Errorf("one round: %s, want no range", one)
	}
}

func TestRuns_Describe(t *testing.T) {
	t.Parallel()
	failed := rates(48_155)
	failed[0].failed = 3
	r := runs{names: []string{"nginx-auth", "varnish", usherName}, samples: map[string][]sample{
		"nginx-auth": rates(2000), "varnish": rates(1000), usherName: failed,
	}}
	if got, want := r.others("nginx-auth"), "nginx-auth 2,000/s, p99 2000 ms, 1.0 µs; varnish 0.50"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := r.describe(usherName); !strings.HasSuffix(got, "**3 failed**") || !strings.HasPrefix(got, "48,155/s") {
		t.Errorf("%s", got)
	}
	if got := r.ratios("nginx-auth"); !strings.HasPrefix(got, "**24.08**; p99 × 24.1; CPU × 1.00") {
		t.Errorf("%s", got)
	}
}

// TestLine_RequestsFail_NotMet has Usher as fast as any goal wants, first without a failed request and then with one.
func TestLine_RequestsFail_NotMet(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		us := sample{perSecond: 3000, p99: time.Millisecond, cpu: time.Microsecond}
		if fails {
			us.failed = 1
		}
		r := &runs{names: []string{peers.Yardstick, usherName}, samples: map[string][]sample{peers.Yardstick: rates(1), usherName: {us}}}
		node := &populated{target: &target{name: usherName}, sessions: 1, opened: new(load.Result)}
		lines := append(millionLines(r, []*populated{node, node}, 0)[1:], contest{wanted: 2}.line(fewConnections, r), expiringLine(new(runs), r, time.Second),
			heldLines(r, node, node, holding{}, 0)[2])
		for _, l := range lines {
			if l.Met == fails {
				t.Errorf("%s, fails %t: met %t", l.Work, fails, l.Met)
			}
			if isCost := l.Goal == "flat within 15 %"; strings.Contains(l.Usher, "**1 failed**") != fails && !isCost {
				t.Errorf("%s, fails %t: %s", l.Work, fails, l.Usher)
			}
		}
	}
}

// TestLine_YardstickFails_NotMet has Usher faster than a yardstick that fails.
func TestLine_YardstickFails_NotMet(t *testing.T) {
	t.Parallel()
	them := rates(1)
	them[0].failed = 1
	r := &runs{names: []string{peers.Yardstick, usherName}, samples: map[string][]sample{
		peers.Yardstick: them, usherName: {{perSecond: 3000, p99: time.Millisecond, cpu: time.Microsecond}},
	}}
	if l := (contest{wanted: 2}).line(fewConnections, r); l.Met || !strings.Contains(l.Peers, "**1 failed**") {
		t.Errorf("met %t, peers %s; want the failure, and no goal met", l.Met, l.Peers)
	}
}

// TestExpiringLine_WarmRequestsFail_NotMet has requests that fail while nothing expires, which the row shows beside the others.
func TestExpiringLine_WarmRequestsFail_NotMet(t *testing.T) {
	t.Parallel()
	rounds := func(failed uint64) *runs {
		us := sample{p99: time.Millisecond, failed: failed}
		return &runs{names: []string{peers.Yardstick, usherName}, samples: map[string][]sample{peers.Yardstick: rates(1), usherName: {us}}}
	}
	for _, test := range []struct {
		warm, expiring uint64
		want           string
	}{{0, 0, ""}, {1, 0, ", **1 failed**"}, {1, 2, ", **3 failed**"}} {
		l := expiringLine(rounds(test.warm), rounds(test.expiring), time.Second)
		if isMet := test.want == ""; l.Met != isMet || !strings.HasSuffix(l.Usher, "at 0 ms)"+test.want) {
			t.Errorf("%d and %d failed: met %t, %s; want %t, …%s", test.warm, test.expiring, l.Met, l.Usher, isMet, test.want)
		}
	}
}

// TestOutages_FailedBefore_NotMet has a request that failed before all decisions had expired.
func TestOutages_FailedBefore_NotMet(t *testing.T) {
	t.Parallel()
	for n := range uint64(2) {
		o := outages{{healthy: time.Millisecond, during: time.Millisecond, served: 10, all: 10, servedNew: 5, allNew: 5, failedBefore: n}}
		if want := n == 0; o.isRefusalMet() != want || o.isHangMet() != want {
			t.Errorf("%d failed: met %t, %t; want %t", n, o.isRefusalMet(), o.isHangMet(), want)
		}
		if isTold := strings.Contains(o.String(), "**1 failed before decisions expired**"); isTold != (n > 0) {
			t.Errorf("%d failed: %s", n, o)
		}
	}
}

// TestBed_Measure_ServerDied_Error has no figures of a server that has ended.
func TestBed_Measure_ServerDied_Error(t *testing.T) {
	t.Parallel()
	server, err := process.Start(exec.Command("sh", "-c", "echo out of luck; exit 1"))
	if err != nil {
		t.Fatal(err)
	}
	<-server.Ended()
	n := &target{name: usherName, address: "127.0.0.1:1", pid: server.PID(), died: server.Err}
	next := func(int, int) load.Request { return load.Request{Head: load.Get(n.address, "/")} }
	s, err := new(bed).measure(t.Context(), n, load.Options{Connections: 1, Limit: 1, Next: next})
	if err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("%+v, %v; want what the server wrote", s, err)
	}
}

// TestIsInTime_TooFew has a session whose decisions expired six times.
func TestIsInTime_TooFew(t *testing.T) {
	t.Parallel()
	for rechecks, want := range map[float64]bool{0: false, 5: false, 5.6: true, 6: true, 6.5: true, 7: false} {
		if got := isInTime(rechecks, 6); got != want {
			t.Errorf("%v re-checks: %t, want %t", rechecks, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestMilliseconds(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0.00512: "5.1 ms", 0.0238: "24 ms", math.NaN(): "–"} {
		if got := milliseconds(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestOutages_String(t *testing.T) {
	t.Parallel()
	nobody := outages{{healthy: time.Millisecond, all: 10, allNew: 5}}
	if got := nobody.String(); got != "0.0 % served (new viewers 0.0 %)" {
		t.Errorf("%s: what nobody felt has no p99", got)
	}
	some := outages{
		{healthy: 2 * time.Millisecond, during: 3 * time.Millisecond, slowest: time.Second, served: 10, all: 10, servedNew: 5, allNew: 5},
		{healthy: 2 * time.Millisecond, during: 5 * time.Millisecond, slowest: 2 * time.Second, served: 5, all: 10, allNew: 5},
	}
	if got, want := some.String(), "75.0 % served (new viewers 50.0 %), p99 × 2.00 (1.50–2.50), slowest 2000 ms"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLookupRE_ReadsBenchmark(t *testing.T) {
	t.Parallel()
	const out = `goos: linux
BenchmarkRegistry_Find/find_and_decide-2         	 4402826	       262.4 ns/op	       0 B/op	       0 allocs/op
BenchmarkRegistry_Find/find_and_decide-2         	 4402826	       270 ns/op	       0 B/op	       1 allocs/op
`
	found := lookupRE.FindAllStringSubmatch(out, -1)
	if len(found) != 2 || found[0][1] != "262.4" || found[1][1] != "270" || found[1][2] != "1" {
		t.Errorf("%q", found)
	}
}

func TestShuffled_RequestsAll(t *testing.T) {
	t.Parallel()

	requests := playlistRequests(&target{request: func(path, token string) string { return path + "?token=" + token }}, 10)
	next := shuffled(requests)
	seen := make(map[string]bool)
	for n := range 10 {
		seen[string(next(0, n).Head)] = true
	}
	if len(seen) != 10 || string(next(0, 0).Head) == string(next(1, 0).Head) {
		t.Errorf("%d different requests of 10", len(seen))
	}
}

// TestPlotCosts_NoTicks has rounds so short that the kernel counted no CPU in one of them, or in both.
func TestPlotCosts_NoTicks(t *testing.T) {
	t.Parallel()
	for name, costs := range map[string][2]time.Duration{"one": {300 * time.Microsecond, 0}, "both": {}} {
		r := &runs{names: []string{"a", "b"}, samples: map[string][]sample{"a": {{cpu: costs[0]}}, "b": {{cpu: costs[1]}}}}
		if plot := plotCosts(r); strings.Count(plot, "█ ") != len(r.names) {
			t.Errorf("%s without a tick: want a bar each:\n%s", name, plot)
		}
	}
}
