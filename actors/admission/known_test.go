package admission

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestKnown(t *testing.T) {
	t.Parallel()
	k := NewKnown(100)
	if k.Has(1<<40, start()) {
		t.Error("a viewer is known who was never allowed")
	}
	if !k.Add(1<<40, start(), start()) || k.Add(1<<40, start(), start()) {
		t.Error("the first time is news, and the second is not")
	}
	for after, want := range map[time.Duration]bool{
		0: true, knownFor: true, knownFor + time.Hour: false, -time.Hour: true, // by the clock of another node
	} {
		if got := k.Has(1<<40, start().Add(after)); got != want {
			t.Errorf("known after %v: %v, want %v", after, got, want)
		}
	}
	if k.Add(1<<40, start(), start().Add(renewAfter/2)) || !k.Add(1<<40, start().Add(renewAfter), start().Add(renewAfter)) {
		t.Error("what is a day old is renewed, and nothing before")
	}
	k.Forget(1 << 40)
	k.Forget(2 << 40) // never known
	if k.Has(1<<40, start()) {
		t.Error("a viewer is known who was denied")
	}
}

// TestKnown_Bounded adds ten times as many viewers as there is room for.
func TestKnown_Bounded(t *testing.T) {
	t.Parallel()
	const keys = 10_000
	k := NewKnown(keys)
	size := len(k.slots)
	key := func(i int) uint64 { return rand.New(rand.NewPCG(1, uint64(i))).Uint64() }
	for i := range keys {
		k.Add(key(i), start(), start())
	}
	if k.Evicted() > keys/20 {
		t.Errorf("%d were forgotten of those for whom there is room", k.Evicted())
	}
	later := start().Add(time.Hour)
	for i := range 10 * keys {
		k.Add(key(keys+i), later, later)
	}
	old, latest := 0, 0
	for i := range keys {
		if k.Has(key(i), later) {
			old++
		}
		if k.Has(key(10*keys+i), later) {
			latest++
		}
	}
	if len(k.slots) != size || old > 0 || latest < keys*6/10 || k.Evicted() < 8*keys {
		t.Errorf("%d slots of %d, %d of the oldest and %d of the latest known, %d forgotten", len(k.slots), size, old, latest, k.Evicted())
	}
}

// TestKnown_Property compares it with a map, as long as there is room.
func TestKnown_Property(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k, model, now := NewKnown(64), map[uint64]time.Time{}, start()
		anyKey := func(t *rapid.T) uint64 { return uint64(rapid.IntRange(1, 12).Draw(t, "key")) * 0x9e3779b97f4a7c15 }
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "hours")) * time.Hour) },
			"add": func(t *rapid.T) {
				key := anyKey(t)
				if k.Add(key, now, now) {
					model[key] = now
				}
			},
			"forget": func(t *rapid.T) {
				key := anyKey(t)
				k.Forget(key)
				delete(model, key)
			},
			"": func(t *rapid.T) {
				for key, at := range model {
					if want := now.Sub(at) <= knownFor; k.Has(key, now) != want {
						t.Fatalf("%x, allowed %v ago: known %v", key, now.Sub(at), !want)
					}
				}
			},
		})
	})
}

func TestKnown_Concurrent(t *testing.T) {
	t.Parallel()
	k := NewKnown(1000)
	var all sync.WaitGroup
	for g := range uint64(4) {
		all.Go(func() {
			for i := range uint64(2000) {
				key := (i*4 + g) * 0x9e3779b97f4a7c15
				k.Add(key, start(), start())
				k.Has(key, start())
				k.Forget(key)
			}
		})
	}
	all.Wait()
}
