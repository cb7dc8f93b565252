package callstats

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// TestStats_Snapshot_Rates averages over the last minute.
func TestStats_Snapshot_Rates(t *testing.T) {
	t.Parallel()
	s := New(Alarm{})
	yes, no := answerOf(backends.Allowed), answerOf(backends.Denied)
	local := backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal}
	r := new(backends.Request)
	for i := range 120 { // one of two a second fails
		at := start.Add(time.Duration(i) * 500 * time.Millisecond)
		if i%2 == 0 {
			s.RecordCall(at, r, backends.Decision{}, &backends.Failure{Kind: backends.FailureTimeout, Backend: "portal"})
			continue
		}
		s.RecordCall(at, r, []backends.Decision{yes, yes, yes, no}[i/2%4], nil)
	}
	s.RecordCall(start.Add(59*time.Second), r, local, nil)
	s.RecordCall(start.Add(59*time.Second), r, backends.Decision{}, backends.NewOverload("x", 1)) // nobody asked
	for _, test := range []struct {
		after  time.Duration
		checks float64
		share  float64
	}{
		{59 * time.Second, 121. / 60, .25},
		{89 * time.Second, 61. / 60, 8. / 30},
		{10 * time.Minute, 0, 0},
	} {
		got := s.Snapshot(start.Add(test.after))
		if got.Checks != test.checks || got.DenialsShare != test.share {
			t.Errorf("after %v: %+v, want %v checks/s and %v denials", test.after, got, test.checks, test.share)
		}
	}
	if got := s.Snapshot(start.Add(59 * time.Second)); got.Failures != 1 {
		t.Errorf("%v failures/s, want 1", got.Failures)
	}
}

// TestStats_Snapshot_Failures keeps the last failure of each kind, and the last changes of the breaker.
func TestStats_Snapshot_Failures(t *testing.T) {
	t.Parallel()
	s := New(Alarm{})
	for i, kind := range []backends.FailureKind{backends.FailureStatus, backends.FailureTimeout, backends.FailureStatus} {
		f := &backends.Failure{Kind: kind, Backend: "portal", Status: 500 + i}
		s.RecordCall(start.Add(time.Duration(i)*time.Second), new(backends.Request), backends.Decision{}, fmt.Errorf("wrapped: %w", f))
	}
	for i := range 40 {
		s.RecordState(start.Add(time.Duration(i)*time.Second), backends.BreakerState(i%3))
	}
	got := s.Snapshot(start)
	want := []Failure{
		{start.Add(2 * time.Second), backends.FailureStatus, `check backend "portal": status 502`},
		{start.Add(time.Second), backends.FailureTimeout, `check backend "portal": timeout`},
	}
	if diff := cmp.Diff(want, got.LastFailures); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if n := len(got.History); n != maxHistory || !got.History[0].Time.Equal(start.Add(8*time.Second)) || got.History[n-1].State != backends.BreakerClosed {
		t.Errorf("%d changes: %+v", n, got.History)
	}
}

func answerOf(v backends.Verdict) backends.Decision {
	return backends.Decision{Verdict: v, Source: backends.FromBackend}
}

// recheckOf returns a re-check of a viewer with that decision.
func recheckOf(v backends.Verdict, s backends.Source) *backends.Request {
	return &backends.Request{Number: 1, IsRecheck: true, Current: backends.Decision{Verdict: v, Source: s}}
}

// traffic is re-checks at a rate for a time, of which a share is denied.
type traffic struct {
	request   *backends.Request
	lasts     time.Duration
	every     time.Duration
	share     float64
	source    backends.Source // of the answers
	wantEvent string          // how many times the alarm begins and ends
}

// TestStats_Alarm_DenialsJump raises the alarm when a backend denies viewers whom it allowed, and for nothing else.
func TestStats_Alarm_DenialsJump(t *testing.T) {
	t.Parallel()
	ours := recheckOf(backends.Allowed, backends.FromBackend)
	returning := *ours
	returning.IsRecheck = false
	backend := backends.FromBackend
	usual := traffic{ours, 2 * time.Hour, time.Second, .02, backend, ""}
	empty := traffic{ours, 10 * time.Minute, time.Second, 1, backend, "begin"}
	well := traffic{ours, 10 * time.Minute, time.Second, .02, backend, "end"}
	quiet := func(t traffic) traffic { t.wantEvent = ""; return t }
	with := func(r *backends.Request, source backends.Source) traffic {
		return traffic{r, time.Hour, 100 * time.Millisecond, 1, source, ""}
	}
	for name, phases := range map[string][]traffic{
		"the database is empty, twice":             {usual, empty, well, empty, well},
		"at once after the start":                  {quiet(usual), empty, quiet(empty)},
		"without anything before":                  {empty, well},
		"a long outage is no normal state":         {usual, {ours, 5 * time.Hour, time.Second, 1, backend, "begin"}, well},
		"half of the portals":                      {usual, {ours, 10 * time.Minute, time.Second, .5, backend, "begin"}, well},
		"a few more than usual":                    {usual, {ours, time.Hour, time.Second, .2, backend, ""}},
		"tokens that always expire":                {{ours, 12 * time.Hour, time.Second, .3, backend, ""}},
		"answers that hold for hours":              {{ours, 48 * time.Hour, 10 * time.Minute, .02, backend, ""}, {ours, 20 * time.Hour, 2 * time.Minute, 1, backend, "begin"}},
		"too few to tell":                          {{ours, 20 * time.Hour, 10 * time.Minute, 1, backend, ""}},
		"an outage between":                        {usual, {recheckOf(backends.Allowed, backends.FromCached), 10 * time.Minute, time.Second, 1, backend, "begin"}},
		"strangers":                                {usual, with(new(backends.Request), backend)},
		"strangers who ask again":                  {usual, with(&backends.Request{Number: 3, IsRecheck: true}, backend)},
		"viewers who return with an old token":     {usual, with(&returning, backend)},
		"viewers who were denied before":           {usual, with(recheckOf(backends.Denied, backends.FromBackend), backend)},
		"viewers whom the outage policy admitted":  {usual, with(recheckOf(backends.Allowed, backends.FromFailOpen), backend)},
		"viewers whom their tickets admitted":      {usual, with(recheckOf(backends.Allowed, backends.FromTicket), backend)},
		"what the adapter decides itself":          {usual, with(ours, backends.FromLocal)},
		"a flood hides no jump":                    {usual, with(new(backends.Request), backend), empty},
		"it lasts while nobody is left to ask for": {usual, empty, with(new(backends.Request), backend), quiet(empty), well},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var events []string
			var details []string
			s := New(Alarm{
				Begin: func(_ time.Time, detail string) { events, details = append(events, "begin"), append(details, detail) },
				End:   func() { events = append(events, "end") },
			})
			random := rand.New(rand.NewPCG(1, 2))
			now := start
			for i, p := range phases {
				events = nil
				for end := now.Add(p.lasts); now.Before(end); now = now.Add(p.every) {
					d := backends.Decision{Verdict: backends.Allowed, Source: p.source}
					if random.Float64() < p.share {
						d.Verdict = backends.Denied
					}
					s.RecordCall(now, p.request, d, nil)
				}
				if got := strings.Join(events, " "); got != p.wantEvent {
					t.Errorf("phase %d: %q, want %q; %q", i, got, p.wantEvent, details)
				}
			}
		})
	}
}

// TestStats_RecordCall_NoAllocations counts answers to re-checks without garbage.
func TestStats_RecordCall_NoAllocations(t *testing.T) {
	s := New(Alarm{})
	r, now := recheckOf(backends.Allowed, backends.FromBackend), start
	record := func() {
		now = now.Add(time.Second)
		s.RecordCall(now, r, answerOf(backends.Allowed), nil)
	}
	for range 2 * minAnswers { // enough to be judged
		record()
	}
	if n := testing.AllocsPerRun(100, record); n != 0 {
		t.Errorf("%v allocations an answer, want 0", n)
	}
}

// TestStats_Alarm_Detail says both shares.
func TestStats_Alarm_Detail(t *testing.T) {
	t.Parallel()
	var detail string
	s := New(Alarm{Begin: func(_ time.Time, d string) { detail = d }, End: func() {}})
	ours, now := recheckOf(backends.Allowed, backends.FromBackend), start
	for i := range 600 { // ten minutes
		now = now.Add(time.Second)
		s.RecordCall(now, ours, answerOf([...]backends.Verdict{backends.Denied, backends.Allowed}[min(1, i%10)]), nil)
	}
	for ; detail == ""; now = now.Add(time.Second) {
		s.RecordCall(now, ours, answerOf(backends.Denied), nil)
	}
	want := "in the last minute it denied 51 % of 61 re-checks of viewers whom it had allowed, 10 % on average in the hour before"
	if detail != want {
		t.Errorf("got  %s\nwant %s", detail, want)
	}
}
