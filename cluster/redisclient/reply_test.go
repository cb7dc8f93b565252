package redisclient

import (
	"math"
	"testing"
	"time"

	"usher/backends"
)

func TestText_OtherKinds(t *testing.T) {
	t.Parallel()
	for _, reply := range []any{nil, "text", int64(7), []any{"a"}, 7.5} {
		_, isList := reply.([]any)
		_, isText := reply.(string)
		_, isInt := reply.(int64)
		if (List(reply) != nil) != isList || (Text(reply) != "") != isText || (Int(reply) != 0) != isInt {
			t.Errorf("%v is read as %v, %q, %d", reply, List(reply), Text(reply), Int(reply))
		}
	}
}

func TestParseName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		verdict backends.Verdict
		known   bool
	}{
		"pending": {backends.Pending, true}, "allowed": {backends.Allowed, true}, "denied": {backends.Denied, true},
		"": {backends.Pending, false}, "Allowed": {backends.Pending, false},
	} {
		if got, known := ParseName(name, backends.Pending, backends.Denied); got != want.verdict || known != want.known {
			t.Errorf("%q: got %v, %t; want %v, %t", name, got, known, want.verdict, want.known)
		}
	}
	if got, known := ParseName("denied", backends.Pending, backends.Allowed); known {
		t.Errorf("a name beyond the last one: got %v", got)
	}
}

func TestMillis_RoundsUp(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]int64{
		0: 0, 1: 1, math.MaxInt64: math.MaxInt64/1_000_000 + 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Minute: 60_000, -1: 0, -time.Hour: 0,
	} {
		if got := Millis(d); got != want {
			t.Errorf("%v: got %d, want %d", d, got, want)
		}
	}
}

func TestDuration_Bounded(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]time.Duration{
		0: 0, 1: time.Millisecond, -1: -time.Millisecond, 60_000: time.Minute,
		maxDuration.Milliseconds(): maxDuration, maxDuration.Milliseconds() + 1: maxDuration, math.MaxInt64: maxDuration, math.MinInt64: -maxDuration,
		math.MaxInt64/1_000_000 + 1: maxDuration, // the first that would overflow
	} {
		if got := Duration(ms); got != want {
			t.Errorf("%d ms: got %v, want %v", ms, got, want)
		}
	}
}

func TestUnixOrZero(t *testing.T) {
	t.Parallel()
	if got := UnixOrZero(time.Time{}); got != 0 {
		t.Errorf("the zero time: got %d", got)
	}
	if got := UnixOrZero(time.Unix(1_700_000_000, 999)); got != 1_700_000_000 {
		t.Errorf("a time: got %d", got)
	}
	if Flag(true) != "1" || Flag(false) != "0" {
		t.Errorf("flags: got %q and %q", Flag(true), Flag(false))
	}
}
