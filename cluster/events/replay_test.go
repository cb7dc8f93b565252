package events

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParsePage(t *testing.T) {
	t.Parallel()
	good := []any{
		int64(1_700_000_000_000), "e1", "7-1", "3-0",
		[]any{[]any{"4-0", "a"}, []any{"odd"}, []any{"x-1", "b"}, []any{"5-0", "c"}, []any{"6-0", "d", "e"}},
	}
	want := streamPage{
		ms: 1_700_000_000_000, epoch: "e1", last: streamID{7, 1}, trimmedTo: streamID{3, 0},
		entries: []streamEntry{{streamID{4, 0}, "a"}, {streamID{5, 0}, "c"}},
	}
	got, err := parsePage(good)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(streamPage{}, streamEntry{}, streamID{})); diff != "" || err != nil {
		t.Errorf("error %v, page (-want +got):\n%s", err, diff)
	}
	for _, reply := range []any{nil, good[:4], append(good, "more")} {
		if _, err := parsePage(reply); err == nil {
			t.Errorf("read the reply %v", reply)
		}
	}
}

func TestStreamPage_EndsAt(t *testing.T) {
	t.Parallel()
	page := streamPage{last: streamID{9, 0}, trimmedTo: streamID{3, 0}}
	for position, want := range map[streamID]bool{
		{}: true, {9, 0}: true, {3, 0}: true, {2, 5}: true, {3, 1}: false, {8, 0}: false, {10, 0}: false,
	} {
		if got := page.endsAt(position); got != want {
			t.Errorf("%v: got %t, want %t", position, got, want)
		}
	}
}

func TestRevocationStream_MarkCurrent(t *testing.T) {
	t.Parallel()
	entry := func(ms uint64) streamEntry { return streamEntry{id: streamID{ms: ms}} }
	for name, test := range map[string]struct {
		position  streamID
		page      streamPage
		want      streamID
		isAssumed bool
	}{
		"an empty stream":                       {streamID{ms: 5}, streamPage{}, streamID{ms: 5}, true},
		"nothing new":                           {streamID{ms: 5}, streamPage{last: streamID{ms: 5}}, streamID{ms: 5}, true},
		"the end of the stream":                 {streamID{ms: 5}, streamPage{last: streamID{ms: 7}, entries: []streamEntry{entry(6), entry(7)}}, streamID{ms: 7}, false},
		"one that came while the page was read": {streamID{ms: 5}, streamPage{last: streamID{ms: 6}, entries: []streamEntry{entry(6), entry(8)}}, streamID{ms: 8}, false},
		"a page that ends before":               {streamID{ms: 5}, streamPage{last: streamID{ms: 9}, entries: []streamEntry{entry(6)}}, streamID{ms: 9}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &revocationStream{position: test.position, isAssumed: true}
			s.markCurrent(test.page)
			if s.position != test.want || s.isAssumed != test.isAssumed || !s.lastCurrent.Equal(time.Now()) {
				t.Errorf("%s: at %v, assumed %t; want %v, %t", name, s.position, s.isAssumed, test.want, test.isAssumed)
			}
		})
	}
}

// TestRevocationStream_Restart issues again what this node issued lately, before what is not written yet. A node that was away
// for longer than the others issue again rechecks its sessions.
func TestRevocationStream_Restart(t *testing.T) {
	t.Parallel()
	for away, rechecks := range map[time.Duration]int{0: 0, reissueWindow: 0, reissueWindow + 1: 1} {
		synctest.Test(t, func(t *testing.T) {
			var lost []Issued
			rechecked := 0
			s := &revocationStream{
				position: streamID{9, 0}, epoch: "e1", lastCurrent: time.Now().Add(-away), log: discard(),
				recent:      []Issued{{ID: "old", At: time.Now().Add(-reissueWindow - 1)}, {ID: "recent", At: time.Now().Add(-reissueWindow)}},
				queued:      []Issued{{ID: "queued", At: time.Now()}},
				onStateLost: func(recent []Issued) { lost = recent },
				recheckAll:  func() { rechecked++ },
			}
			s.restart("e2")
			if len(lost) != 2 || lost[0].ID != "recent" || lost[1].ID != "queued" || len(s.queued) != 2 || len(s.recent) != 0 {
				t.Errorf("issues %+v again, want what is recent and queued", lost)
			}
			if s.epoch != "e2" || s.position != (streamID{}) || !s.isAssumed || rechecked != rechecks {
				t.Errorf("away for %v: at %v in %s, %d rechecks; want %d", away, s.position, s.epoch, rechecked, rechecks)
			}
		})
	}
}
