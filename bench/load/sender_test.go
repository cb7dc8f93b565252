package load

import (
	"testing"
	"time"
)

func TestSender_Count_WarmUpIsLeftOut(t *testing.T) {
	t.Parallel()
	from := time.Unix(1_000_000_000, 0)
	s := newSender(0, &Options{}, from.Add(-time.Second), from, from.Add(time.Second))
	for _, intended := range []time.Time{from.Add(-time.Nanosecond), from, from.Add(time.Millisecond)} {
		s.count(intended, intended.Add(time.Millisecond), intended.Add(2*time.Millisecond), 10, "")
		s.count(intended, time.Time{}, time.Time{}, 0, "timeout")
	}
	r := &s.result
	if r.Served != 2 || r.Bytes != 20 || r.Failures["timeout"] != 2 || r.Latency.Max() != 2*time.Millisecond ||
		r.FirstByte.Max() != time.Millisecond {
		t.Errorf("%d served, %d bytes, failures %v, latency %v, first byte %v", r.Served, r.Bytes, r.Failures, r.Latency.Max(),
			r.FirstByte.Max())
	}
}

func TestSender_Await_OpenLoop_ConnectionsTakeTurns(t *testing.T) {
	t.Parallel()
	start := time.Now().Add(-time.Hour) // so that all are due
	o := &Options{Rate: 10, Connections: 2}
	for index := range 2 {
		s := newSender(index, o, start, start, start.Add(time.Second))
		for n := range 6 {
			intended, ok := s.await(t.Context(), n)
			want := start.Add(time.Duration(2*n+index) * 100 * time.Millisecond)
			if isDue := n < 5; ok != isDue || isDue && !intended.Equal(want) {
				t.Errorf("request %d of connection %d: %v, %v; want %v, %v", n, index, intended, ok, want, isDue)
			}
		}
	}
}
