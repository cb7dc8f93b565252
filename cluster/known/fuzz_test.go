package known

import (
	"encoding/binary"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

// FuzzSharing_Read reads whatever the stream of viewers has. A viewer was allowed before now and not before all time, and the
// next call begins behind the entry.
func FuzzSharing_Read(f *testing.F) {
	keys := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 7), 8)
	f.Add(int64(1_700_000_060_000), "1700000000000-3", keys)
	f.Add(int64(1_700_000_000_000), "1700000000000-18446744073709551614", keys[:12])
	f.Add(int64(1<<63-1), "1-0", keys)
	f.Add(int64(-1<<63), "9223372036854775807-0", keys)
	f.Add(int64(0), "x", []byte(nil))
	now := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, clock int64, id string, keys []byte) {
		told := 0
		s := &Sharing{next: "-", log: slog.New(slog.DiscardHandler), onKnown: func(key uint64, allowed time.Time) {
			if want := binary.LittleEndian.Uint64(keys[told*keySize:]); key != want {
				t.Errorf("told of %d, want %d", key, want)
			}
			told++
			if allowed.After(now) || allowed.Before(now.AddDate(-101, 0, 0)) {
				t.Errorf("%s at %d: allowed %v, now it is %v", id, clock, allowed, now)
			}
		}}
		if got := s.read([]any{clock, []any{id, string(keys)}}, now); got != 1 {
			t.Errorf("%d entries, want 1", got)
		}
		if s.next == "-" {
			if told > 0 {
				t.Errorf("told of %d by an entry that is passed over", told)
			}
			return
		}
		ms, _, isID := after(id)
		if told != len(keys)/keySize || !isID || ms < 0 || !strings.HasSuffix(id[:strings.LastIndexByte(id, '-')], s.next[:strings.IndexByte(s.next, '-')]) {
			t.Errorf("%q has %d bytes: told of %d, next %q", id, len(keys), told, s.next)
		}
	})
}

// TestSharing_Read_ImpossibleClock counts a viewer as allowed long ago if the time since overflows a duration, and not as allowed
// later than now.
func TestSharing_Read_ImpossibleClock(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	for _, clock := range []int64{math.MaxInt64, math.MaxInt64/1_000_000 + 1, math.MinInt64} {
		var got time.Time
		s := &Sharing{onKnown: func(_ uint64, allowed time.Time) { got = allowed }}
		s.read([]any{clock, []any{"1-0", "12345678"}}, now)
		if got.IsZero() || got.After(now.AddDate(-99, 0, 0)) {
			t.Errorf("a clock at %d ms: allowed %v, want a century before %v", clock, got, now)
		}
	}
}
