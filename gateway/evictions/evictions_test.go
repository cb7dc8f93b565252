package evictions

import (
	"testing"

	"github.com/maypok86/otter/v2"
)

func TestCounter_CountsOverflowAlone(t *testing.T) {
	t.Parallel()
	var c Counter
	cache := otter.Must(&otter.Options[int, int]{MaximumSize: 10, OnAtomicDeletion: Of[int, int](&c)})
	for i := range 5 {
		cache.Set(i, i)
		cache.Set(i, -i)
		cache.Invalidate(i)
	}
	cache.CleanUp()
	if got := c.Count(); got != 0 {
		t.Errorf("%d evictions of a cache with room", got)
	}
	for i := range 100 {
		cache.Set(i, i)
	}
	cache.CleanUp()
	if got := c.Count(); got != 90 {
		t.Errorf("%d evictions, want 90", got)
	}
}
