package events

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"usher/cluster/redisclient"
)

func TestParseStreamID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		id streamID
		ok bool
	}{
		"0-0":             {streamID{}, true},
		"1700000000000-3": {streamID{1_700_000_000_000, 3}, true},
		"18446744073709551615-18446744073709551615": {streamID{1<<64 - 1, 1<<64 - 1}, true},
		"":                       {},
		"1700000000000":          {},
		"-3":                     {},
		"x-3":                    {},
		"1700000000000-":         {},
		"1700000000000-x":        {},
		"18446744073709551616-0": {},
		"1-2-3":                  {},
	} {
		if id, ok := parseStreamID(text); id != want.id || ok != want.ok {
			t.Errorf("%q: got %v, %t; want %v, %t", text, id, ok, want.id, want.ok)
		}
	}
}

func TestStreamID_Next_CarriesOver(t *testing.T) {
	t.Parallel()
	const most = math.MaxUint64
	for id, want := range map[streamID]streamID{
		{}: {0, 1}, {7, 3}: {7, 4}, {7, most}: {8, 0}, {most, 3}: {most, 4}, {most, most}: {most, most},
	} {
		if got := id.next(); got != want {
			t.Errorf("after %v: got %v, want %v", id, got, want)
		}
	}
}

func TestStreamID_Order(t *testing.T) {
	t.Parallel()
	inOrder := []streamID{{}, {0, 1}, {7, 0}, {7, 1}, {8, 0}, {8, 9}, {9, 0}}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got := a.isAfter(b); got != (i > j) {
				t.Errorf("%v is after %v: %t", a, b, got)
			}
		}
	}
	if got, want := (streamID{7, 1}).next(), (streamID{7, 2}); got != want {
		t.Errorf("next: got %v, want %v", got, want)
	}
}

func TestStreamID_Minus(t *testing.T) {
	t.Parallel()
	id := streamID{10_000, 5}
	for d, want := range map[time.Duration]streamID{
		time.Second: {9_000, 0}, 0: {10_000, 0}, -time.Second: {10_000, 0}, 9_999 * time.Millisecond: {1, 0}, 10 * time.Second: {}, time.Hour: {},
	} {
		if got := id.minus(d); got != want {
			t.Errorf("%v before: got %v, want %v", d, got, want)
		}
	}
}

func TestStreamID_Age(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock, id := new(redisclient.Clock), streamID{ms: 5_000}
		if got := id.age(clock); got != 0 {
			t.Errorf("Redis' time is unknown: got %v, want 0", got)
		}
		clock.Set(7_000, time.Now())
		time.Sleep(500 * time.Millisecond)
		for id, want := range map[streamID]time.Duration{
			{ms: 5_000}: 2500 * time.Millisecond, {ms: 7_500}: 0, {ms: 9_000}: 0, {}: 0,
		} {
			if got := id.age(clock); got != want {
				t.Errorf("%v: got %v, want %v", id, got, want)
			}
		}
	})
}
