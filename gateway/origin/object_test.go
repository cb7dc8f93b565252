package origin

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestObjectDerive_ComputesOncePerKey(t *testing.T) {
	t.Parallel()
	o := &Object{Body: []byte("playlist")}
	var computed atomic.Int32
	var done sync.WaitGroup
	for i := range 64 {
		done.Go(func() {
			k := i % 4
			if got := o.Derive(1, k, func() any { computed.Add(1); return k * 10 }); got != k*10 {
				t.Errorf("key %d: got %v", k, got)
			}
		})
	}
	done.Wait()
	if got := computed.Load(); got != 4 {
		t.Errorf("computed %d times, want 4", got)
	}
}

func TestObjectDerive_BoundedNumberOfKeys(t *testing.T) {
	t.Parallel()
	o := &Object{}
	computed := 0
	for range 2 {
		for k := range maxDerived + 3 {
			o.Derive(1, k, func() any { computed++; return k })
		}
	}
	if want := maxDerived + 2*3; computed != want {
		t.Errorf("computed %d times, want %d", computed, want)
	}
}

func TestObjectDerive_Hit_DoesNotAllocate(t *testing.T) {
	o := &Object{}
	k := new(int)
	if n := testing.AllocsPerRun(100, func() { o.Derive(1, k, func() any { return o.Body }) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// TestObjectDerive_LaterGeneration_DropsEarlierOnes has as many keys as are kept in each of three generations, and then one of an
// earlier generation, whose requests end late.
func TestObjectDerive_LaterGeneration_DropsEarlierOnes(t *testing.T) {
	t.Parallel()
	o := &Object{}
	computed := 0
	derive := func(generation uint64, k int) any {
		return o.Derive(generation, k, func() any { computed++; return int(generation)*100 + k })
	}
	for generation := range uint64(3) {
		for range 2 {
			for k := range maxDerived {
				if got, want := derive(generation, k), int(generation)*100+k; got != want {
					t.Errorf("generation %d, key %d: got %v, want %d", generation, k, got, want)
				}
			}
		}
	}
	if want := 3 * maxDerived; computed != want {
		t.Errorf("computed %d times, want %d", computed, want)
	}
	if got := derive(1, 0); got != 100 {
		t.Errorf("a late call got %v, want 100", got)
	}
	if _, isMade := o.Derived(1, 0); isMade {
		t.Error("a value of an earlier generation is kept")
	}
	if got, isMade := o.Derived(2, 0); !isMade || got != 200 {
		t.Errorf("got %v %t, want that the late call dropped nothing", got, isMade)
	}
}
