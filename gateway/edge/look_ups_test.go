package edge

import (
	"testing"
	"time"
)

func TestLookUps_Begin(t *testing.T) {
	t.Parallel()
	l, now := new(LookUps), time.Unix(1_700_000_000, 0)
	for i := range maxLookUpsOfAddress {
		if err := l.Begin(7, 1, false, now); err != nil {
			t.Fatalf("look-up %d: %v", i, err)
		}
	}
	if err := l.Begin(7, 1, false, now); err == nil {
		t.Error("one more of that address was made")
	}
	if err := l.Begin(8, 1, false, now); err != nil {
		t.Errorf("another address: %v", err)
	}
	l.Found(7, 1, now)
	if err := l.Begin(7, 1, false, now); err != nil {
		t.Errorf("after one that found its viewer: %v", err)
	}
	if err := l.Begin(7, 1, false, now.Add(time.Second)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	l.Found(7, 1, now) // of a second that is over
	for i := range maxLookUpsOfAddress - 1 {
		if err := l.Begin(7, 1, false, now.Add(time.Second)); err != nil {
			t.Fatalf("look-up %d of the next second: %v", i, err)
		}
	}
	if err := l.Begin(7, 1, false, now.Add(time.Second)); err == nil {
		t.Error("one more was made in the next second")
	}
}

// TestLookUps_Begin_Several has a viewer's path have many folders.
func TestLookUps_Begin_Several(t *testing.T) {
	t.Parallel()
	l, now := new(LookUps), time.Unix(1_700_000_000, 0)
	const most = 62
	if err := l.Begin(7, most, false, now); err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := l.Begin(7, most, false, now); err == nil {
		t.Error("the second was made, beyond the bound")
	}
	if err := l.Begin(7, maxLookUpsOfAddress-most, false, now); err != nil {
		t.Errorf("as many as the bound leaves: %v", err)
	}
	l.Found(7, most, now)
	if err := l.Begin(7, most, false, now); err != nil {
		t.Errorf("after one that found its viewer: %v", err)
	}
}

func TestLookUps_Begin_AllAddresses(t *testing.T) {
	t.Parallel()
	l, now := new(LookUps), time.Unix(1_700_000_000, 0)
	for i := range uint64(maxLookUps) {
		if err := l.Begin(i, 1, false, now); err != nil {
			t.Fatalf("look-up %d: %v", i, err)
		}
	}
	const another = maxLookUps
	for range 2 * maxLookUpsOfAddress { // what was not made does not count
		if err := l.Begin(another, 1, false, now); err == nil {
			t.Fatal("one more was made")
		}
	}
	for i := range uint64(maxLookUpsOfAddress) {
		l.Found(i, 1, now)
	}
	for i := range maxLookUpsOfAddress {
		if err := l.Begin(another, 1, false, now); err != nil {
			t.Fatalf("look-up %d after those that found their viewers: %v", i, err)
		}
	}
}

// TestLookUps_Begin_Spare leaves room for viewers who cannot do without.
func TestLookUps_Begin_Spare(t *testing.T) {
	t.Parallel()
	l, now := new(LookUps), time.Unix(1_700_000_000, 0)
	for i := range maxLookUpsOfAddress / 2 {
		if err := l.Begin(7, 1, true, now); err != nil {
			t.Fatalf("look-up %d: %v", i, err)
		}
	}
	if err := l.Begin(7, 1, true, now); err == nil {
		t.Error("one more was made of those that viewers can do without")
	}
	for i := range maxLookUpsOfAddress / 2 {
		if err := l.Begin(7, 1, false, now); err != nil {
			t.Fatalf("look-up %d that a viewer needs: %v", i, err)
		}
	}
	if err := l.Begin(7, 1, false, now); err == nil {
		t.Error("one more was made than there is room for")
	}
}
