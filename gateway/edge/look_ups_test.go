package edge

import (
	"testing"
	"time"
)

func TestLookUps_Begin(t *testing.T) {
	t.Parallel()
	l, now := new(LookUps), time.Unix(1_700_000_000, 0)
	for i := range maxLookUpsOfAddress {
		if err := l.Begin(7, now); err != nil {
			t.Fatalf("look-up %d: %v", i, err)
		}
	}
	if err := l.Begin(7, now); err == nil {
		t.Error("one more of that address was made")
	}
	if err := l.Begin(8, now); err != nil {
		t.Errorf("another address: %v", err)
	}
	l.Found(7, now)
	if err := l.Begin(7, now); err != nil {
		t.Errorf("after one that found its viewer: %v", err)
	}
	if err := l.Begin(7, now.Add(time.Second)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	l.Found(7, now) // of a second that is over
	for i := range maxLookUpsOfAddress - 1 {
		if err := l.Begin(7, now.Add(time.Second)); err != nil {
			t.Fatalf("look-up %d of the next second: %v", i, err)
		}
	}
	if err := l.Begin(7, now.Add(time.Second)); err == nil {
		t.Error("one more was made in the next second")
	}
}

func TestLookUps_Begin_AllAddresses(t *testing.T) {
	t.Parallel()
	l, now := new(LookUps), time.Unix(1_700_000_000, 0)
	for i := range uint64(maxLookUps) {
		if err := l.Begin(i, now); err != nil {
			t.Fatalf("look-up %d: %v", i, err)
		}
	}
	const another = maxLookUps
	for range 2 * maxLookUpsOfAddress { // what was not made does not count
		if err := l.Begin(another, now); err == nil {
			t.Fatal("one more was made")
		}
	}
	for i := range uint64(maxLookUpsOfAddress) {
		l.Found(i, now)
	}
	for i := range maxLookUpsOfAddress {
		if err := l.Begin(another, now); err != nil {
			t.Fatalf("look-up %d after those that found their viewers: %v", i, err)
		}
	}
}
