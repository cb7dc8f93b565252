package calibrate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/bench/load"
)

// TestUsage_Beyond: in 4 s a node used 3 s, of which it would have used 0.4 s without work.
func TestUsage_Beyond(t *testing.T) {
	start := time.Unix(1000, 0)
	before := reading{at: start, node: 10, redis: 5, harness: 2, machine: 30, calls: 7, commands: map[string]float64{"zadd": 3}, redisBytes: 50}
	after := reading{
		at: start.Add(4 * time.Second), node: 13, redis: 6, harness: 3, machine: 36, calls: 107,
		commands: map[string]float64{"zadd": 1003, "hset": 5}, redisBytes: 80,
	}
	got := after.minus(before)
	want := usage{
		seconds: 4, node: 3, redis: 1, harness: 1, others: 1, calls: 100, commands: map[string]float64{"zadd": 1000, "hset": 5}, redisBytes: 30,
	}
	all := cmp.AllowUnexported(usage{})
	if diff := cmp.Diff(want, got, all); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if beyond := got.beyond(usage{seconds: 1, node: 0.125, redis: 0.25}); beyond.node != 2.5 || beyond.redis != 0 {
		t.Errorf("beyond an idle node: %v and %v, want 2.5 and 0", beyond.node, beyond.redis)
	}
	want = usage{
		seconds: 8, node: 6, redis: 2, harness: 2, others: 2, calls: 200, commands: map[string]float64{"zadd": 2000, "hset": 10}, redisBytes: 60,
	}
	if diff := cmp.Diff(want, got.plus(got), all); diff != "" {
		t.Errorf("twice (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(got, usage{}.plus(got), all); diff != "" {
		t.Errorf("first one (-want +got):\n%s", diff)
	}
	if v := micros(got.node, got.calls); v != 30_000 {
		t.Errorf("%v µs each, want 30000", v)
	}
}

func TestReading_AddRedis(t *testing.T) {
	info := map[string]string{
		"used_cpu_user": "1.5", "used_cpu_sys": "0.25", "used_memory": "4096", "cmdstat_zadd": "calls=12,usec=34,usec_per_call=2.83", "role": "master",
	}
	var r reading
	if err := r.addRedis(info); err != nil || r.redis != 1.75 || r.redisBytes != 4096 || r.commands["zadd"] != 12 || len(r.commands) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	delete(info, "used_memory")
	if err := r.addRedis(info); err == nil || !strings.Contains(err.Error(), "INFO of redis-server") {
		t.Errorf("%v, want an error for INFO without used_memory", err)
	}
}

func TestNotes_All(t *testing.T) {
	n := notes{cores: 2}
	n.add("quiet", usage{seconds: 10, node: 8, harness: 9, others: 1})
	if got := n.all(); len(got) != 0 {
		t.Errorf("notes %q of a quiet machine with room, want none", got)
	}
	n.add("playlists", usage{seconds: 10, node: 8, harness: 11, others: 1})
	n.add("playlists", usage{seconds: 10, node: 8, harness: 11, others: 1})
	n.add("shared", usage{seconds: 10, node: 9, harness: 4, others: 7})
	got := n.all()
	if len(got) != 2 || !strings.Contains(got[0], "up to 0.7 of 2 cores") || !strings.Contains(got[1], "bottleneck of: playlists. ") {
		t.Errorf("notes %q", got)
	}
}

func TestFailed(t *testing.T) {
	for _, c := range []struct {
		served, failed uint64
		isError        bool
	}{{0, 0, true}, {1000, 0, false}, {1000, 10, false}, {1000, 11, true}} {
		r := &load.Result{Served: c.served, Failures: map[string]uint64{"status 503": c.failed}}
		if err := failed(t.Context(), r); errors.Is(err, errFailed) != c.isError {
			t.Errorf("%d served, %d failed: %v", c.served, c.failed, err)
		}
		// None at all is no failure of one window among others.
		if err := failedWindow(t.Context(), r); errors.Is(err, errFailed) != (c.isError && c.failed > 0) {
			t.Errorf("a window of %d served, %d failed: %v", c.served, c.failed, err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := failedWindow(ended, new(load.Result)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
