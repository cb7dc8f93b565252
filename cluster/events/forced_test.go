package events

import (
	"errors"
	"fmt"
	"math"
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
	if got := f.All(now.Add(time.Hour)); len(got) != 0 {
		t.Errorf("after an hour there are %+v", got)
	}
	if a := f.NextVersion("a", 3); a != 7 {
		t.Errorf("with the clock set back after the order has ended, the next version is %d, want 7", a)
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

// TestDecodeForced_EndsFarAhead holds an order whose end overflows a duration.
func TestDecodeForced_EndsFarAhead(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	stored := strings.Replace(goldenForced, "61000", "9223372036854775807", 1)
	if got, isCurrent, err := decodeForced(goldenCipher(t), "portal", stored, 1000, now); err != nil || !isCurrent || !got.Until.After(now) {
		t.Errorf("current %t, %v, ends at %v; want after %v", isCurrent, err, got.Until, now)
	}
}

// TestDecodeForced_VersionAhead drops an order with a version that no time of an order has, so that another one can follow it.
func TestDecodeForced_VersionAhead(t *testing.T) {
	t.Parallel()
	const ms = 1000
	now := time.Unix(1_700_000_000, 0)
	for version, want := range map[int64]bool{
		7: true, ms + 86_400_000: true, ms + 86_400_001: false, math.MaxInt64 - 1: false, math.MaxInt64: false, math.MinInt64: true,
	} {
		stored := strings.Replace(goldenForced, "7 ", fmt.Sprint(version, " "), 1)
		got, isCurrent, err := decodeForced(goldenCipher(t), "portal", stored, ms, now)
		if isCurrent != want || (err == nil) != want || !want && got != (backends.ForcedBreaker{}) {
			t.Errorf("version %d: %+v, current %t, %v; want current %t", version, got, isCurrent, err, want)
		}
	}
}

// FuzzDecodeForced takes whatever Redis has.
func FuzzDecodeForced(f *testing.F) {
	f.Add(goldenForced)
	f.Add("7 61000 ")
	f.Add(strings.Replace(goldenForced, "61000", "9223372036854775807", 1))
	f.Add("x")
	f.Fuzz(func(t *testing.T, value string) {
		got, isCurrent, err := decodeForced(goldenCipher(t), "portal", value, 1000, time.Unix(1_700_000_000, 0))
		if isCurrent && (err != nil || got.Backend != "portal" || !strings.Contains(value, " ")) {
			t.Errorf("%+v, %v", got, err)
		}
		if isCurrent != got.Until.After(time.Unix(1_700_000_000, 0)) {
			t.Errorf("current %t, and ends at %v", isCurrent, got.Until)
		}
	})
}

// FuzzDecodeForced_Message decodes what a node with the keys may have stored. What holds means the same again.
func FuzzDecodeForced_Message(f *testing.F) {
	cipher, now := goldenCipher(f), time.Unix(1_700_000_000, 0)
	for _, o := range []backends.ForcedBreaker{
		{Backend: "portal", IsForced: true, State: backends.BreakerOpen, Reason: "upgrade", By: "ops"}, {Backend: "portal"},
	} {
		plain, err := cipher.Decrypt(encodeForced(cipher, o), "forced portal")
		must(f, err)
		f.Add(int64(7), int64(61_000), int64(1000), plain)
		f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(0), plain)
		f.Add(int64(-1), int64(math.MinInt64), int64(math.MaxInt64), plain)
	}
	f.Fuzz(func(t *testing.T, version, ends, ms int64, plain []byte) {
		stored := func(encrypted []byte) string { return fmt.Sprintf("%d %d %s", version, ends, encrypted) }
		o, isCurrent, err := decodeForced(cipher, "portal", stored(cipher.Encrypt(plain, "forced portal")), ms, now)
		if errors.Is(err, errVersionAhead) {
			version = 0
		}
		if o.Version != version {
			t.Errorf("version %d is read as %d", version, o.Version)
		}
		if !isCurrent {
			if o != (backends.ForcedBreaker{Version: version}) {
				t.Errorf("does not hold, with %+v, %v", o, err)
			}
			return
		}
		if err != nil || ends <= ms || !o.Until.After(now) {
			t.Errorf("one that ends at %d holds at %d until %v, %v", ends, ms, o.Until, err)
		}
		again, isCurrent, err := decodeForced(cipher, "portal", stored(encodeForced(cipher, o)), ms, now)
		if again != o || !isCurrent || err != nil {
			t.Errorf("decoded %+v, then %+v, current %t, %v", o, again, isCurrent, err)
		}
	})
}

const goldenForced = "7 61000 \x01aU\x10\xc6\xfb5['\xa6a\xce\"ȝ\xe4\x8c\r\x00٥\x14\x9e\xb6\xed\xcfV\xd8\xec\xcb\x11\x97\xbfo2\xf4+'\xa8\x06zx\x1fD\x9dm_+\x9df^\xe6\x82\xff'ѓG\xa2\x0f\xeb\xa7?\xab \x05(\x85\x13+\a\x93\xda"
