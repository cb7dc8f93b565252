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
			if got := o.Derive(k, func() any { computed.Add(1); return k * 10 }); got != k*10 {
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
			o.Derive(k, func() any { computed++; return k })
		}
	}
	if want := maxDerived + 2*3; computed != want {
		t.Errorf("computed %d times, want %d", computed, want)
	}
}

func TestObjectDerive_Hit_DoesNotAllocate(t *testing.T) {
	o := &Object{}
	k := new(int)
	if n := testing.AllocsPerRun(100, func() { o.Derive(k, func() any { return o.Body }) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
