package calibrate

import (
	"errors"
	"maps"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"usher/bench/plan"
	"usher/bench/rig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func build(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "usher")
	if out, err := exec.Command("go", "build", "-o", file, "usher/cmd/usher").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

func reference(t *testing.T) plan.Costs {
	t.Helper()
	costs, err := plan.Reference()
	if err != nil {
		t.Fatal(err)
	}
	return costs
}

// readBack returns the costs of the report's file, and what a plan with them prints.
func readBack(t *testing.T, r *Report) (plan.Costs, string) {
	t.Helper()
	var file, out strings.Builder
	if err := r.Costs.Write(&file); err != nil {
		t.Fatal(err)
	}
	costs, err := plan.ReadCosts(strings.NewReader(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(
		plan.Demand{Viewers: 1e6, Validity: time.Minute, Segment: 4 * time.Second, Bitrate: 6e6, Ramp: time.Minute, Limited: 0.5, Heartbeat: 20 * time.Second},
		plan.Machine{Cores: 8, Memory: 64e9, Network: 25e9, MaxSessions: 1e6}, costs)
	if err := errors.Join(err, p.Print(&out, 0, costs)); err != nil {
		t.Fatal(err)
	}
	return costs, out.String()
}

// TestCalibration_Round measures every cost once, in short steps.
func TestCalibration_Round(t *testing.T) {
	c := newCalibration(Options{Usher: build(t)}, 250*time.Millisecond)
	if err := c.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plan.Names(), slices.Sorted(maps.Keys(c.values))); diff != "" {
		t.Errorf("measured costs (-want +got):\n%s", diff)
	}
	costs, out := readBack(t, c.report(reference(t), "usher test"))
	// A difference of two windows may be below zero: then it is too small beside the noise of a busy machine, and the plan says so.
	differences := []string{"heartbeat_us", "redis_heartbeat_us", "segment_us"}
	var noise []string
	before := reference(t)
	for name, found := range c.values {
		if len(found) == 1 && found[0] <= 0 && slices.Contains(differences, name) {
			noise, found = append(noise, name), []float64{before.Value(name)}
		}
		if len(found) != 1 || found[0] <= 0 || costs.Value(name) != rounded(found[0]) {
			t.Errorf("%s: %v measured, %v in the file; want one value above 0", name, found, costs.Value(name))
		}
	}
	isUntold := func(name string) bool { return !strings.Contains(out, "Not measured: "+name+" (estimate: too small") }
	if slices.ContainsFunc(noise, isUntold) || strings.Count(out, "Not measured") != len(noise) || !strings.Contains(out, "usher test") {
		t.Errorf("too small beside the noise are %v, and the plan is\n%s", noise, out)
	}
}

// TestCalibration_Report_NoRedis keeps the reference machine's costs with Redis, and says so.
func TestCalibration_Report_NoRedis(t *testing.T) {
	t.Setenv("PATH", "")
	c := newCalibration(Options{}, time.Second)
	if got := len(c.steps()); got != 4 {
		t.Errorf("%d steps, want the 4 without Redis", got)
	}
	want := []string{
		"heartbeat_us", "limited_heartbeat_us", "opening_us", "recheck_us", "redis_heartbeat_us", "redis_limited_heartbeat_us",
		"redis_opening_us", "redis_recheck_us", "redis_session_bytes",
	}
	for _, name := range plan.Names() {
		if !slices.Contains(want, name) {
			c.values[name] = []float64{1, 2, 3}
		}
	}
	before := reference(t)
	r := c.report(reference(t), "usher test")
	costs, out := readBack(t, r)
	for _, name := range want {
		if costs.Value(name) != before.Value(name) || !strings.Contains(out, "Not measured: "+name+" (estimate: redis-server is not installed") {
			t.Errorf("%s: %v, want the reference's, marked; the plan is\n%s", name, costs.Value(name), out)
		}
	}
	if got := costs.Estimates(); !slices.Equal(got, want) {
		t.Errorf("estimates %v, want %v", got, want)
	}
	var table strings.Builder
	if err := r.Print(&table); err != nil || !strings.Contains(table.String(), "Note: redis-server is not installed") {
		t.Errorf("%v, the table is\n%s", err, table.String())
	}
}

func TestCalibration_Report(t *testing.T) {
	c := newCalibration(Options{}, time.Second)
	for i, name := range plan.Names() {
		c.values[name] = []float64{float64(i) + 3, float64(i) + 1.2345, float64(i) + 2}
	}
	c.values["heartbeat_us"] = []float64{-1, 2, -3}
	c.values["recheck_us"] = []float64{math.Inf(1), 2, math.Inf(1)} // no re-check came
	before, got := reference(t), c.report(reference(t), "usher v1")
	if v, source := got.Costs.Value("auth_question_us"), got.Costs.Sources["auth_question_us"]; v != 2 ||
		source != "node's CPU: nginx asks about known viewers, 64 connections; median of 3 rounds, 1.23 to 3" {
		t.Errorf("%v, %q", v, source)
	}
	if got.Costs.Heartbeat != before.Heartbeat || !slices.Equal(got.Costs.Estimates(), []string{"heartbeat_us", "recheck_us"}) {
		t.Errorf("heartbeat %v, estimates %v; want the reference's %v, and two estimates", got.Costs.Heartbeat, got.Costs.Estimates(), before.Heartbeat)
	}
	if len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], "heartbeat_us, recheck_us: too small") {
		t.Errorf("notes %q", got.Notes)
	}
}

// TestRead_NodeDied_Error has no costs of a node that ended while it was measured.
func TestRead_NodeDied_Error(t *testing.T) {
	c := newCalibration(Options{Usher: build(t)}, time.Second)
	g, err := c.start(t.Context(), rig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := read(t.Context(), g); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := syscall.Kill(g.Nodes[0].PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); {
		_, err = read(t.Context(), g)
	}
	if want := "node1: it ended by itself"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestMethods_EveryCost(t *testing.T) {
	if diff := cmp.Diff(plan.Names(), slices.Sorted(maps.Keys(methods()))); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
}

func TestRun_Errors(t *testing.T) {
	for want, o := range map[string]Options{
		"rounds: 2, want at least 3":  {Rounds: 2, For: time.Second},
		"for: 0s, want more than 0":   {Rounds: 3},
		"/none/usher version: fork/e": {Rounds: 3, For: time.Second, Usher: "/none/usher"},
	} {
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all  []float64
		want float64
	}{{[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{7}, 7}} {
		if got := median(c.all); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.all, got, c.want)
		}
	}
}

func TestNumber_ThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0.012345: "0.0123", 41.26: "41.3", 3316: "3320", 56_912_345: "56900000"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// TestTwoSizes: 20 µs whatever the size and 200 µs a megabyte are 40 µs for 100 kB and 220 µs for 1 MB.
func TestTwoSizes(t *testing.T) {
	if each, megabyte := twoSizes(1e5, 40, 1e6, 220); rounded(each) != 20 || rounded(megabyte) != 200 {
		t.Errorf("%v µs and %v µs a megabyte, want 20 and 200", each, megabyte)
	}
}
