package timeline_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"usher/actors/timeline"
	"usher/backends"
)

func t0() time.Time { return time.Date(2026, 3, 1, 20, 0, 0, 0, time.UTC) }

func check(t timeline.Trigger, source backends.Source, took time.Duration) timeline.Entry {
	return timeline.Entry{Trigger: t, Backend: "portal", Verdict: backends.Allowed, Source: source, Duration: took}
}

// summary shows entries in a line each: trigger, source, count, what was left out before.
func summary(entries []timeline.Entry) (lines []string) {
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%v %v/%v ×%d -%d", e.Trigger, e.Verdict, e.Source, e.Count, e.Omitted))
	}
	return lines
}

func TestLog_Entries_AsAdded(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	if got := l.Entries("portal"); len(got) != 0 {
		t.Errorf("an empty log has %d entries", len(got))
	}
	added := []timeline.Entry{
		check(timeline.Opening, backends.FromBackend, 12300*time.Microsecond),
		{
			Trigger: timeline.Recheck, Backend: "portal", Verdict: backends.Allowed, Source: backends.FromCached,
			Duration: 2 * time.Second, Reason: "paid", Error: "timeout: no answer within timeout=2s",
		},
		{Trigger: timeline.Kick, Verdict: backends.Denied, Source: backends.FromOperator, Reason: "ended by an operator"},
	}
	at := t0()
	for i := range added {
		at = at.Add(time.Duration(i) * 90 * time.Second)
		l.Add(added[i], at)
		added[i].Time, added[i].Since, added[i].Count = at, at, 1
	}
	if diff := cmp.Diff(added, l.Entries("portal")); diff != "" {
		t.Errorf("entries (-added +got):\n%s", diff)
	}
}

func TestLog_Add_ClockSetBack_KeepsTimes(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	l.Add(check(timeline.Opening, backends.FromBackend, 0), t0())
	l.Add(check(timeline.Recheck, backends.FromBackend, 0), t0().Add(-time.Hour))
	got := l.Entries("portal")
	if !got[0].Time.Equal(t0()) || !got[1].Time.Equal(t0().Add(-time.Hour)) {
		t.Errorf("times are %v and %v, want %v and an hour before", got[0].Time, got[1].Time, t0())
	}
}

func TestLog_Add_ManyRechecks_MergesOldest(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	l.Add(check(timeline.Opening, backends.FromBackend, 0), t0())
	const rechecks = 1000
	for i := 1; i <= rechecks; i++ {
		took := time.Millisecond
		if i == 7 {
			took = time.Second
		}
		l.Add(check(timeline.Recheck, backends.FromBackend, took), t0().Add(time.Duration(i)*time.Minute))
	}
	got := l.Entries("portal")
	if len(got) != timeline.MaxEntries {
		t.Fatalf("%d entries, want %d", len(got), timeline.MaxEntries)
	}
	const single = timeline.MaxEntries - 2
	merged := got[1]
	want := timeline.Entry{
		Time: t0().Add((rechecks - single) * time.Minute), Since: t0().Add(time.Minute), Count: rechecks - single,
		Trigger: timeline.Recheck, Backend: "portal", Verdict: backends.Allowed, Source: backends.FromBackend, Duration: time.Second,
	}
	if diff := cmp.Diff(want, merged); diff != "" {
		t.Errorf("merged entry (-want +got):\n%s", diff)
	}
	if first, last := got[0], got[len(got)-1]; first.Trigger != timeline.Opening || last.Count != 1 ||
		!last.Time.Equal(t0().Add(rechecks*time.Minute)) {
		t.Errorf("first entry %+v and last entry %+v, want the opening and the newest re-check", first, last)
	}
}

// TestLog_Add_ManyRechecks_KeepsChanges has two outages in a long life.
func TestLog_Add_ManyRechecks_KeepsChanges(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	at := t0()
	add := func(e timeline.Entry, times int) {
		for range times {
			at = at.Add(time.Minute)
			l.Add(e, at)
		}
	}
	healthy := check(timeline.Recheck, backends.FromBackend, 0)
	cached := check(timeline.Recheck, backends.FromCached, 0)
	cached.Error = "transport: connection refused"
	add(check(timeline.Opening, backends.FromBackend, 0), 1)
	add(healthy, 100)
	add(cached, 1)
	add(healthy, 100)
	add(check(timeline.Lookup, backends.FromBackend, 0), 1)
	add(healthy, 100)
	want := []string{
		"opening allowed/backend ×1 -0", "recheck allowed/backend ×100 -0", "recheck allowed/cached ×1 -0",
		"recheck allowed/backend ×100 -0", "lookup allowed/backend ×1 -0", "recheck allowed/backend ×90 -0",
	}
	for range 10 {
		want = append(want, "recheck allowed/backend ×1 -0")
	}
	if diff := cmp.Diff(want, summary(l.Entries("portal"))); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// TestLog_Add_NothingToMerge_SaysWhatIsLeftOut alternates, so that no two entries are alike.
func TestLog_Add_NothingToMerge_SaysWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	l.Add(check(timeline.Opening, backends.FromBackend, 0), t0())
	for i := range 50 {
		source := backends.FromCached
		if i%2 == 1 {
			source = backends.FromBackend
		}
		l.Add(check(timeline.Recheck, source, 0), t0().Add(time.Duration(i)*time.Minute))
	}
	got := l.Entries("portal")
	total := 0
	for _, e := range got {
		total += e.Count + e.Omitted
	}
	if len(got) != timeline.MaxEntries || got[0].Trigger != timeline.Opening || total != 51 {
		t.Errorf("%d entries for %d events, the first %v; want %d for 51, the first the opening",
			len(got), total, got[0].Trigger, timeline.MaxEntries)
	}
	if got[1].Omitted != 51-timeline.MaxEntries {
		t.Errorf("%d left out before the second entry, want %d", got[1].Omitted, 51-timeline.MaxEntries)
	}
}

// TestLog_Add_NothingToMerge_LeavesOutWhatChangedNothing alternates the triggers of one outcome, after an outage.
func TestLog_Add_NothingToMerge_LeavesOutWhatChangedNothing(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	l.Add(check(timeline.Opening, backends.FromFailOpen, 0), t0())
	l.Add(check(timeline.Recheck, backends.FromBackend, 0), t0())
	for i := range 100 {
		l.Add(check([]timeline.Trigger{timeline.Lookup, timeline.Recheck}[i%2], backends.FromBackend, 0), t0())
	}
	got := summary(l.Entries("portal"))
	if want := []string{"opening allowed/fail-open ×1 -0", "recheck allowed/backend ×1 -0"}; !cmp.Equal(want, got[:2]) {
		t.Errorf("the first entries are %q, want %q: what changed the source stays", got[:2], want)
	}
}

// TestLog_Add_OnlyNewestAlike_MergesThem fills the log with what cannot be merged, and then repeats a look-up.
func TestLog_Add_OnlyNewestAlike_MergesThem(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	sources := []backends.Source{backends.FromBackend, backends.FromCached}
	for i := range timeline.MaxEntries - 1 {
		l.Add(check(timeline.Recheck, sources[i%2], 0), t0())
	}
	for i := range 3 {
		l.Add(check(timeline.Lookup, backends.FromLocal, 0), t0().Add(time.Duration(i)*time.Minute))
	}
	got := l.Entries("portal")
	newest := got[len(got)-1]
	if len(got) != timeline.MaxEntries || newest.Trigger != timeline.Lookup || newest.Count != 3 ||
		!newest.Since.Equal(t0()) || !newest.Time.Equal(t0().Add(2*time.Minute)) {
		t.Errorf("%d entries, the last one %+v; want %d, and three look-ups in one", len(got), newest, timeline.MaxEntries)
	}
}

func TestLog_Add_LongTexts_Clipped(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		strings.Repeat("x", 160):      strings.Repeat("x", 160),
		strings.Repeat("x", 161):      strings.Repeat("x", 157) + "…",
		"x" + strings.Repeat("ü", 80): "x" + strings.Repeat("ü", 78) + "…",
		"two\nlines\x1b[31m of\ttext": "two lines [31m of text",
		"no\xffUTF-8":                 "no\uFFFDUTF-8",
	} {
		var l timeline.Log
		l.Add(timeline.Entry{Reason: text}, t0())
		if got := l.Entries("")[0].Reason; got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestLog_Add_AnyEvents_StaysBounded adds events at random, and long texts.
func TestLog_Add_AnyEvents_StaysBounded(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "paid", "no answer: timeout", strings.Repeat("ü", 500), "two\nlines\x1b[31m", "\xff\xfe"}
	for range 200 {
		var l timeline.Log
		added := 1 + random.IntN(100)
		var last timeline.Entry
		for i := range added {
			last = timeline.Entry{
				Trigger: timeline.Trigger(random.IntN(9)), Verdict: backends.Verdict(random.IntN(3)), Source: backends.Source(random.IntN(9)),
				Reason: texts[random.IntN(len(texts))], Error: texts[random.IntN(len(texts))],
				Duration: time.Duration(random.Int64N(int64(time.Minute))), Backend: []string{"", "portal"}[random.IntN(2)],
			}
			if i == 0 {
				last.Trigger = timeline.Opening
			}
			l.Add(last, t0().Add(time.Duration(random.Int64N(int64(time.Hour)))))
		}
		got := l.Entries("portal")
		total := 0
		for _, e := range got {
			total += e.Count + e.Omitted
			for _, text := range []string{e.Reason, e.Error} {
				if len(text) > 160 || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\x1b") {
					t.Fatalf("text %q is not bounded or not clean", text)
				}
			}
		}
		newest := got[len(got)-1]
		if len(got) > timeline.MaxEntries || total != added || got[0].Trigger != timeline.Opening ||
			newest.Trigger != last.Trigger || newest.Source != last.Source || newest.Backend != last.Backend {
			t.Fatalf("%d entries for %d of %d events, the last one %+v; want the opening first, and %+v last", len(got), total, added, newest, last)
		}
	}
}

func TestLog_AddAndEntries_AtOnce(t *testing.T) {
	t.Parallel()
	var l timeline.Log
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 100 {
				l.Add(check(timeline.Recheck, backends.FromBackend, 0), t0())
				l.Entries("portal")
			}
		})
	}
	group.Wait()
	total := 0
	for _, e := range l.Entries("portal") {
		total += e.Count + e.Omitted
	}
	if total != 400 {
		t.Errorf("%d events, want 400", total)
	}
}
