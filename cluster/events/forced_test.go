package events

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// TestForced_Add_NewerHolds keeps the newest order on each backend until it ends.
func TestForced_Add_NewerHolds(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	order := func(backend string, version int64, holds time.Duration) backends.ForcedBreaker {
		return backends.ForcedBreaker{Backend: backend, IsForced: true, Until: now.Add(holds), Version: version}
	}
	f := NewForced()
	for i, test := range []struct {
		order backends.ForcedBreaker
		isNew bool
	}{
		{order("a", 5, time.Hour), true},
		{order("a", 5, 2*time.Hour), false},
		{order("a", 4, 2*time.Hour), false},
		{order("b", 1, time.Minute), true},
		{order("a", 6, 0), false},
		{order("a", 6, time.Hour), true},
	} {
		if got := f.Add(now, test.order); got != test.isNew {
			t.Errorf("order %d: new %t, want %t", i, got, test.isNew)
		}
	}
	if a, b, c := f.NextVersion("a", 3), f.NextVersion("a", 9), f.NextVersion("c", 9); a != 7 || b != 9 || c != 9 {
		t.Errorf("the next versions are %d, %d, %d; want 7, 9, 9", a, b, c)
	}
	if got := f.All(now.Add(time.Minute)); len(got) != 1 || got[0] != order("a", 6, time.Hour) {
		t.Errorf("after a minute there are %+v", got)
	}
}

// TestDecodeForced_Golden reads an order as it was written by a node of another version.
func TestDecodeForced_Golden(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	want := backends.ForcedBreaker{
		Backend: "portal", IsForced: true, State: backends.BreakerOpen, Until: now.Add(time.Minute), Reason: "upgrade", By: "ops", Version: 7,
	}
	written := fmt.Sprintf("7 61000 %s", encodeForced(goldenCipher(t), want))
	stored := goldenForced
	for name, value := range map[string]string{"written now": written, "written before": stored} {
		got, isCurrent, err := decodeForced(goldenCipher(t), "portal", value, 1000, now)
		if diff := cmp.Diff(want, got); diff != "" || !isCurrent || err != nil {
			t.Errorf("%s: current %t, %v (-want +got):\n%s\nit is %q", name, isCurrent, err, diff, written)
		}
	}
	if got, isCurrent, err := decodeForced(goldenCipher(t), "portal", stored, 61_000, now); isCurrent || err != nil || got.Version != 7 {
		t.Errorf("one that has ended: %+v, current %t, %v", got, isCurrent, err)
	}
	if got, isCurrent, err := decodeForced(goldenCipher(t), "other", stored, 1000, now); isCurrent || err == nil || got.Version != 7 {
		t.Errorf("one of another backend: %+v, current %t, %v", got, isCurrent, err)
	}
}

// FuzzDecodeForced takes whatever Redis has.
func FuzzDecodeForced(f *testing.F) {
	f.Add(goldenForced)
	f.Add("7 61000 ")
	f.Add("x")
	f.Fuzz(func(t *testing.T, value string) {
		got, isCurrent, err := decodeForced(goldenCipher(t), "portal", value, 1000, time.Unix(1_700_000_000, 0))
		if isCurrent && (err != nil || got.Backend != "portal" || !strings.Contains(value, " ")) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

const goldenForced = "7 61000 \x01aU\x10\xc6\xfb5['\xa6a\xce\"ȝ\xe4\x8c\r\x00٥\x14\x9e\xb6\xed\xcfV\xd8\xec\xcb\x11\x97\xbfo2\xf4+'\xa8\x06zx\x1fD\x9dm_+\x9df^\xe6\x82\xff'ѓG\xa2\x0f\xeb\xa7?\xab \x05(\x85\x13+\a\x93\xda"
