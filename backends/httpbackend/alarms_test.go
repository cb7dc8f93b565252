package httpbackend

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends"
)

func TestAlarms_LogsBeginningAndEnd(t *testing.T) {
	t.Parallel()
	start := time.Now()
	bad := AlarmSet(0).With(backends.AlarmUnexpectedStatus)
	type answer struct {
		after time.Duration
		seen  AlarmSet
	}
	tests := map[string]struct {
		answers []answer
		lines   int
		raised  AlarmSet
	}{
		"good answers log nothing":                        {[]answer{{0, 0}, {1, 0}}, 0, 0},
		"a hundred bad ones in a row log once":            {repeat(answer{0, bad}, 100), 1, bad},
		"a good one between does not clear it":            {[]answer{{0, bad}, {time.Second, 0}, {2 * time.Second, bad}}, 1, bad},
		"a good one after a quiet minute does":            {[]answer{{0, bad}, {time.Minute, 0}}, 2, 0},
		"silence alone does not":                          {[]answer{{0, bad}, {time.Hour, bad}}, 1, bad},
		"and then it may begin again":                     {[]answer{{0, bad}, {time.Minute, 0}, {2 * time.Minute, bad}}, 3, bad},
		"another alarm has a line and a state of its own": {[]answer{{0, bad}, {0, bad.With(backends.AlarmBadHeader)}}, 2, bad.With(backends.AlarmBadHeader)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			w := NewAlarms("portal", slog.New(slog.NewTextHandler(&out, nil)))
			for _, a := range tt.answers {
				w.Record(start.Add(a.after), a.seen, "status 404")
			}
			if got := strings.Count(out.String(), "\n"); got != tt.lines {
				t.Errorf("got %d lines, want %d:\n%s", got, tt.lines, out.String())
			}
			if w.Active() != tt.raised {
				t.Errorf("got alarms %b, want %b", w.Active(), tt.raised)
			}
		})
	}
}

// An alarm that no single answer raises ends with answers, as every other one does, and ends none itself.
func TestAlarms_Raise(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w, start := NewAlarms("portal", slog.New(slog.NewTextHandler(&out, nil))), time.Now()
	w.Record(start, AlarmSet(0).With(backends.AlarmBadHeader), "X-Unique")
	for range 3 {
		w.Raise(start.Add(2*time.Minute), backends.AlarmConstantUser, "201 addresses")
	}
	both := AlarmSet(0).With(backends.AlarmBadHeader).With(backends.AlarmConstantUser)
	if w.Active() != both || w.Count(backends.AlarmConstantUser) != 3 || w.Count(backends.AlarmBadHeader) != 1 {
		t.Errorf("got alarms %b, raised %d times, want %b, 3 times", w.Active(), w.Count(backends.AlarmConstantUser), both)
	}
	if strings.Count(out.String(), "\n") != 2 || !strings.Contains(out.String(), `detail="201 addresses"`) {
		t.Errorf("want a line for each alarm, got:\n%s", out.String())
	}
	w.Record(start.Add(2*time.Minute+alarmClearAfter), 0, "")
	if w.Active() != 0 {
		t.Errorf("got alarms %b after a good answer, want none", w.Active())
	}
}

func repeat[T any](v T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

func TestAlarms_Count(t *testing.T) {
	t.Parallel()
	w := NewAlarms("portal", nil)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 250 {
				w.Record(time.Now(), AlarmSet(0).With(backends.AlarmBadHeader).With(backends.AlarmRedirectToItself), "")
				w.Record(time.Now(), 0, "")
			}
		})
	}
	group.Wait()
	for _, a := range backends.AllAlarms() {
		want := uint64(0)
		if a == backends.AlarmBadHeader || a == backends.AlarmRedirectToItself {
			want = 1000
		}
		if got := w.Count(a); got != want {
			t.Errorf("%s: got %d, want %d", a, got, want)
		}
	}
}

func TestAlarms_Record_GoodAnswerAllocatesNothing(t *testing.T) {
	w := NewAlarms("portal", nil)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { w.Record(now, 0, "") }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// Only End ends an alarm that no single answer tells of.
func TestAlarms_End(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w, start := NewAlarms("portal", slog.New(slog.NewTextHandler(&out, nil))), time.Now()
	w.End(backends.AlarmDenialsJumped) // which does not hold
	w.Raise(start, backends.AlarmDenialsJumped, "90 % of 100")
	w.Record(start.Add(time.Hour), 0, "")
	if !w.Active().Has(backends.AlarmDenialsJumped) {
		t.Error("a good answer ended it")
	}
	w.End(backends.AlarmDenialsJumped)
	if w.Active() != 0 || w.Count(backends.AlarmDenialsJumped) != 1 {
		t.Errorf("got alarms %b, raised %d times", w.Active(), w.Count(backends.AlarmDenialsJumped))
	}
	if got := strings.Count(out.String(), "alarm=denials_jumped"); got != 2 || !strings.Contains(out.String(), "keeps its contract again") {
		t.Errorf("want a line of the beginning and of the end, got:\n%s", out.String())
	}
}
