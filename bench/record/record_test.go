package record_test

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/bench/record"
	"usher/bench/result"
)

var start = time.Date(2026, 6, 11, 20, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

// values returns a line's values; -1: not known.
func values(m *result.Measurement, name string) []float64 {
	for _, l := range m.Series.Lines {
		if l.Name == name {
			var all []float64
			for _, v := range l.Values {
				if v == nil {
					all = append(all, -1)
				} else {
					all = append(all, *v)
				}
			}
			return all
		}
	}
	return nil
}

// TestRecorder_Latency_CountsFromIntendedTime records a request that was sent late.
func TestRecorder_Latency_CountsFromIntendedTime(t *testing.T) {
	r := record.New(start)
	r.Request(record.Request{Op: record.Playlist, Intended: at(0), Sent: at(0.4), FirstByte: at(0.5), End: at(0.6), Bytes: 100})
	m := r.Finish(at(1))
	o := m.Operations[result.Playlist]
	if got := o.Latency.Max().Round(10 * time.Millisecond); got != 600*time.Millisecond {
		t.Errorf("latency %v, want 600ms from the intended time", got)
	}
	if got := o.FirstByte.Max().Round(10 * time.Millisecond); got != 500*time.Millisecond {
		t.Errorf("first byte after %v, want 500ms", got)
	}
	if got := m.Arrivals.Lateness.Max().Round(10 * time.Millisecond); got != 400*time.Millisecond {
		t.Errorf("sent %v late, want 400ms", got)
	}
}

func TestRecorder_Series(t *testing.T) {
	r := record.New(start)
	r.Total("middleware.calls", 1000) // read before anything happened
	r.Gauge("viewers.alive", "", 7)
	r.Grown("rechecks", 0, 0) // the first reading
	r.Planned(4)
	for range 4 {
		r.Request(record.Request{Op: record.Segment, Intended: at(0), Sent: at(0), End: at(1), Failure: "status 503"})
	}
	// A tick that came late: rates are by the real time.
	if got := r.Tick(at(2)).Failures; len(got) != 1 || got["status 503"] != 2 {
		t.Errorf("failures %v, want 2 a second of status 503", got)
	}
	r.Total("middleware.calls", 1010)
	r.Grown("rechecks", 6, 1500*time.Millisecond) // a tick may come earlier
	r.Grown("rechecks", 3, 500*time.Millisecond)  // of another process
	end := r.Fault("middleware refuses", at(2.5))
	if got := r.Tick(at(3)); !slices.Equal(got.Faults, []string{"middleware refuses"}) || got.Totals["requests.segment"] != 4 ||
		got.Values["middleware.calls"] != 10 || len(got.Failures) != 0 {
		t.Errorf("snapshot %+v", got)
	}
	end(at(3.5))
	r.Fault("node 2 killed", at(3.75))
	r.Total("middleware.calls", 3) // the counter began anew
	m := r.Finish(at(4))
	for name, want := range map[string][]float64{
		"requests.segment": {2, 0, 0}, "errors.segment": {2, 0, 0}, "latency.max.segment": {1, -1, -1},
		"middleware.calls": {0, 10, 3}, "rechecks": {0, 10, -1}, "viewers.alive": {7, -1, -1}, "openings.planned": {2, 0, 0},
	} {
		got := values(&m, name)
		for i := range got {
			got[i] = float64(int(got[i]*1000)) / 1000 // three digits
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	want := []result.Fault{{Name: "middleware refuses", From: 2.5, To: 3.5}, {Name: "node 2 killed", From: 3.75, To: 4}}
	if !slices.EqualFunc(m.Faults, want, func(a, b result.Fault) bool { return a.Name == b.Name && a.From == b.From && a.To == b.To }) {
		t.Errorf("faults %v, want %v", m.Faults, want)
	}
	if m.Counts["middleware.calls"] != 13 || m.Arrivals.Planned != 4 || len(m.Counts) != 2 || m.Counts["rechecks"] != 9 {
		t.Errorf("counts %v, %d planned; want 13 calls, 9 re-checks, 4", m.Counts, m.Arrivals.Planned)
	}
}

// TestRecorder_ShortRest_InLastSecond ends a measurement shortly after a tick.
func TestRecorder_ShortRest_InLastSecond(t *testing.T) {
	r := record.New(start)
	r.Tick(at(1))
	r.Request(record.Request{Op: record.Opening, Intended: at(1), Sent: at(1), End: at(1.1), Failure: "no answer"})
	m := r.Finish(at(1.2))
	if got := m.Operations[result.Opening].Requests; got != 1 || len(m.Series.Seconds) != 1 {
		t.Errorf("%d requests, %d seconds; want 1, 1", got, len(m.Series.Seconds))
	}
	if rate := values(&m, "errors.opening")[0] * m.Series.Seconds[0]; math.Abs(rate-1) > 1e-9 {
		t.Errorf("%v errors in the last second, want the one behind it", rate)
	}
}

// TestRecorder_ShortRest_LongestLatency ends a measurement with requests behind the last tick, one of them the longest.
func TestRecorder_ShortRest_LongestLatency(t *testing.T) {
	r := record.New(start)
	request := func(op record.Op, from, to float64) {
		r.Request(record.Request{Op: op, Intended: at(from), Sent: at(from), End: at(to)})
	}
	request(record.Playlist, 0, 0.5)
	request(record.Segment, 0, 1)
	r.Tick(at(1))
	request(record.Playlist, 0, 1.2)
	request(record.Segment, 0.5, 1.1)
	request(record.Opening, 0, 1.1)
	m := r.Finish(at(1.2))
	for op, want := range map[string]float64{result.Playlist: 1.2, result.Segment: 1, result.Opening: 1.1} {
		if got := values(&m, "latency.max."+op); len(got) != 1 || math.Abs(got[0]-want) > 0.01*want {
			t.Errorf("%s: the longest took %v, want %v", op, got, want)
		}
	}
}

func TestRecorder_Processes_LargestSize(t *testing.T) {
	r := record.New(start)
	r.Process(result.Process{Name: "node1", CPUSeconds: 1, Resident: 100})
	r.Process(result.Process{Name: "node1", CPUSeconds: 2, Resident: 50})
	r.Note("the generator was the bottleneck")
	r.Note("the generator was the bottleneck")
	m := r.Finish(at(1))
	if want := []result.Process{{Name: "node1", CPUSeconds: 2, Resident: 100}}; !slices.Equal(m.Processes, want) || len(m.Notes) != 1 {
		t.Errorf("%v, notes %q; want %v and one note", m.Processes, m.Notes, want)
	}
}

// TestRecorder_Concurrent loses no request while seconds end.
func TestRecorder_Concurrent(t *testing.T) {
	r := record.New(start)
	const senders, each = 8, 2000
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range each {
				r.Request(record.Request{Op: record.Playlist, Intended: at(0), Sent: at(0), End: at(0.001), Failure: "timeout"})
			}
		})
	}
	for i := range 20 {
		r.Tick(at(float64(i + 1)))
	}
	all.Wait()
	m := r.Finish(at(21))
	o := m.Operations[result.Playlist]
	if o.Requests != senders*each || o.Latency.Count() != senders*each || o.Failed() != senders*each {
		t.Errorf("%d requests, %d latencies, %d errors; want %d", o.Requests, o.Latency.Count(), o.Failed(), senders*each)
	}
}

// TestRecorder_Request_NoAllocation holds for each request after the first of its kind.
func TestRecorder_Request_NoAllocation(t *testing.T) {
	r := record.New(start)
	q := record.Request{Op: record.Playlist, Intended: at(0), Sent: at(0), FirstByte: at(0.1), End: at(0.2), Bytes: 5, Failure: "timeout"}
	for range 1000 { // every shard has its histograms
		r.Request(q)
	}
	if got := testing.AllocsPerRun(1000, func() { r.Request(q) }); got != 0 {
		t.Errorf("%v allocations a request, want 0", got)
	}
}

func TestOp_String(t *testing.T) {
	var names []string
	for op := record.Opening; op <= record.AuthQuestion; op++ {
		names = append(names, op.String())
	}
	if got, want := strings.Join(names, " "), "opening playlist multivariant segment auth"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func BenchmarkRecorder_Request(b *testing.B) {
	r := record.New(start)
	q := record.Request{Op: record.Playlist, Intended: at(0), Sent: at(0), FirstByte: at(0.1), End: at(0.2), Bytes: 5}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r.Request(q)
		}
	})
}
