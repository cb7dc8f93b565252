package viewer

import (
	"testing"
	"testing/synctest"
	"time"

	"usher/bench/result"
	"usher/bench/stage"
)

func TestRun_PlaysLiveChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := play(t, oneTarget(5), 60*time.Second, stage.NewOrigin(stage.Config{}))
		for op, want := range map[string]uint64{
			// Every two seconds, from the start on; the opening loads one of each.
			result.Opening: 5, result.Playlist: 5 * 30, result.Multivariant: 5 * 30,
			// Three at the start, and one every two seconds.
			result.Segment: 5 * (3 + 29),
		} {
			o := m.Operations[op]
			if o.Requests != want || o.Failed() > 0 || o.Latency.Max() > time.Millisecond {
				t.Errorf("%s: %d requests, failed %v, slowest %v; want %d, none, at once", op, o.Requests, o.Errors, o.Latency.Max(), want)
			}
		}
		if a := m.Arrivals; a.Planned != 5 || a.Started != 5 || a.Dropped != 0 || a.Lateness.Max() > tick {
			t.Errorf("planned %d, started %d, dropped %d, late by %v; want 5, 5, 0, a tick", a.Planned, a.Started, a.Dropped, a.Lateness.Max())
		}
		if len(m.Notes) > 0 {
			t.Errorf("notes %q", m.Notes)
		}
	})
}
