package edge

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func TestFingerprints_Of_TellsApart(t *testing.T) {
	t.Parallel()
	f := NewFingerprints()
	t.Cleanup(f.Close)
	seen := map[Fingerprint]string{}
	for _, route := range []string{"r", "rc"} {
		for _, channel := range []string{"c", "cc", ""} {
			for _, agent := range []string{"", "a", "ca"} {
				for _, address := range []string{"192.0.2.7", "192.0.2.8", "::192.0.2.7", "2001:db8::7"} {
					what := fmt.Sprint(route, "|", channel, "|", agent, "|", address)
					key := f.Of(route, channel, "", netip.MustParseAddr(address), agent, false)
					if other, taken := seen[key]; taken {
						t.Errorf("%s looks like %s", what, other)
					}
					seen[key] = what
				}
			}
		}
	}
}

func TestFingerprints_Of_PublisherIsAnother(t *testing.T) {
	t.Parallel()
	f := NewFingerprints()
	t.Cleanup(f.Close)
	of := func(folder string, isPublish bool) Fingerprint {
		return f.Of("r", "c", folder, netip.MustParseAddr("192.0.2.7"), "a", isPublish)
	}
	if of("", true) == of("", false) || of("x", false) == of("", false) {
		t.Error("a viewer who publishes, or one in another folder, looks like the first")
	}
	if first, again := of("x", true), of("x", true); first != again {
		t.Error("one viewer has two fingerprints")
	}
}

func TestFingerprints_Record(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ used, want []byte }{
		"never used":                       {nil, nil},
		"one":                              {[]byte{1}, []byte{1}},
		"one twice":                        {[]byte{1, 1}, []byte{1}},
		"the newest first":                 {[]byte{1, 2, 3}, []byte{3, 2, 1}},
		"an older one comes back":          {[]byte{1, 2, 3, 1}, []byte{1, 3, 2}},
		"as many as are remembered":        {[]byte{1, 2, 3, 4, 5, 6, 7, 8}, []byte{8, 7, 6, 5, 4, 3, 2, 1}},
		"one too many":                     {[]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, []byte{9, 8, 7, 6, 5, 4, 3, 2}},
		"one that comes back is none more": {[]byte{1, 2, 3, 4, 5, 6, 7, 8, 1}, []byte{1, 8, 7, 6, 5, 4, 3, 2}},
	} {
		f := NewFingerprints()
		key, other := f.OfGroup(backends.SessionID{1}), f.OfGroup(backends.SessionID{2})
		f.Record(other, backends.SessionID{99}, time.Time{}, time.Time{}, time.Time{})
		for _, id := range tc.used {
			f.Record(key, backends.SessionID{id}, time.Time{}, time.Time{}, time.Time{})
			f.Record(key+numRecent, backends.SessionID{id}, time.Time{}, time.Time{}, time.Time{}) // it is noted in the same place
		}
		var want []backends.SessionID
		for _, id := range tc.want {
			want = append(want, backends.SessionID{id})
		}
		for _, k := range []Fingerprint{key, key + numRecent} {
			if diff := cmp.Diff(want, f.AppendSessions(nil, k)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		f.Close()
	}
}

// TestFingerprints_Record_Lost records a session again that the memory has given up.
func TestFingerprints_Record_Lost(t *testing.T) {
	t.Parallel()
	f := NewFingerprints()
	t.Cleanup(f.Close)
	const key = 7
	id, now := backends.SessionID{1}, time.Unix(1_700_000_000, 0)
	f.Record(key, id, now, time.Time{}, now)
	f.entries.Invalidate(key)
	f.Record(key, id, now, time.Time{}, now)
	if got := f.AppendSessions(nil, key); len(got) != 1 {
		t.Errorf("%d sessions, want the one that was lost", len(got))
	}
}

// TestFingerprints_Record_Crowd has more viewers of one fingerprint than are remembered.
func TestFingerprints_Record_Crowd(t *testing.T) {
	t.Parallel()
	f := NewFingerprints()
	t.Cleanup(f.Close)
	opened := time.Unix(1_700_000_000, 0)
	record := func(viewer byte, at time.Duration) bool {
		return f.Record(7, backends.SessionID{1: viewer}, opened, time.Time{}, opened.Add(at))
	}
	for i := range byte(MaxSessionsPerFingerprint) {
		if !record(i, 0) {
			t.Errorf("viewer %d is no news", i)
		}
	}
	for _, step := range []struct {
		viewer byte
		at     time.Duration
		isNews bool
	}{
		{8, crowdInterval - time.Second, false},
		{0, crowdInterval - time.Second, false}, // it has made room
		{9, crowdInterval, true},
		{10, crowdInterval, false},
		{10, crowdInterval + time.Minute, true}, // it is remembered, and nobody was told of it
		{9, crowdInterval + time.Minute, false},
	} {
		if got := record(step.viewer, step.at); got != step.isNews {
			t.Errorf("viewer %d after %v: got %t, want %t", step.viewer, step.at, got, step.isNews)
		}
	}
}

// TestFingerprints_Record_IsNews has the other nodes told of new tickets, and of each again after a while.
func TestFingerprints_Record_IsNews(t *testing.T) {
	t.Parallel()
	f := NewFingerprints()
	t.Cleanup(f.Close)
	one, two := backends.SessionID{1}, backends.SessionID{2}
	opened := time.Unix(1_700_000_000, 0)
	for _, step := range []struct {
		what       string
		id         backends.SessionID
		opened, at time.Duration
		isNews     bool
	}{
		{"a session", one, 0, 0, true},
		{"again", one, 0, 0, false},
		{"in the next minute", one, 0, recentTurn, false},
		{"opened anew", one, time.Second, recentTurn, true},
		{"another session", two, 0, recentTurn, true},
		{"the first one again", one, time.Second, recentTurn, false},
		{"the other one, just in time", two, 0, recentTurn + tellInterval - time.Second, false},
		{"the other one, a while after", two, 0, 2*recentTurn + tellInterval, true},
		{"the first one, then", one, time.Second, 2*recentTurn + tellInterval, true},
		{"and again", one, time.Second, 2*recentTurn + tellInterval, false},
	} {
		if got := f.Record(7, step.id, opened.Add(step.opened), time.Time{}, opened.Add(step.at)); got != step.isNews {
			t.Errorf("%s: got %t, want %t", step.what, got, step.isNews)
		}
	}
}
