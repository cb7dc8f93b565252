package result_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"usher/bench/result"
)

// TestRun_WriteAndRead keeps histograms exact, so that rounds of two documents merge.
func TestRun_WriteAndRead(t *testing.T) {
	o := &result.Operation{Requests: 3, Errors: map[string]uint64{"timeout": 1, "status 503": 1}}
	for _, d := range []time.Duration{0, time.Millisecond, time.Hour} {
		o.Latency.Record(d)
	}
	value := 2.0
	run := result.Run{Version: result.Version, Scenario: "steady", Measurements: []result.Measurement{{
		Target: "usher", Round: 1, Operations: map[string]*result.Operation{result.Playlist: o},
		Series:     result.Series{Seconds: []float64{0, 1}, Lines: []result.Line{{Name: "requests.playlist", Values: []*float64{nil, &value}}}},
		Assertions: []result.Assertion{{Text: "errors = 0", Got: "2"}},
	}}}
	var text bytes.Buffer
	if err := run.Write(&text); err != nil {
		t.Fatal(err)
	}
	got, err := result.Read(&text)
	if err != nil {
		t.Fatal(err)
	}
	read := got.Measurements[0].Operations[result.Playlist]
	read.Latency.Merge(&o.Latency)
	if n, p50, most := read.Latency.Count(), read.Latency.Quantile(0.5), read.Latency.Max(); n != 6 ||
		p50 != time.Millisecond || most < 599*time.Second || most > 601*time.Second {
		t.Errorf("count %d, median %v, longest %v; want 6, 1ms, about 10m", n, p50, most)
	}
	if read.Failed() != 2 || len(got.Failed()) != 1 {
		t.Errorf("%d failed requests, %d failed assertions; want 2, 1", read.Failed(), len(got.Failed()))
	}
	line := got.Measurements[0].Series.Lines[0]
	if line.Values[0] != nil || *line.Values[1] != value {
		t.Errorf("values %v, want nil, 2", line.Values)
	}
}

func TestRead_Errors(t *testing.T) {
	if _, err := result.Read(strings.NewReader(`{"version": 99}`)); !errors.Is(err, result.ErrVersion) {
		t.Errorf("another version: %v, want %v", err, result.ErrVersion)
	}
	if _, err := result.Read(strings.NewReader(`{"version"`)); err == nil {
		t.Error("a cut document: no error")
	}
	for text, want := range map[string]string{
		`{"version": 1, "machine": "a table", "playlist_us": 40}`:              "no run of usher-bench: it has no measurements",
		`{"version": 1, "measurements": [{"operations": {"playlist": null}}]}`: "measurements[0].operations.playlist: null",
		`{"version": 1, "measurements": [{}, {"operations": {"auth": null}}]}`: "measurements[1].operations.auth: null",
	} {
		if _, err := result.Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
