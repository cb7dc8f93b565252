// Package evictions counts what caches give up because they are full.
package evictions

import (
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// Counter counts evictions of some caches. The zero value is ready. It is safe for concurrent use.
type Counter struct{ n atomic.Uint64 }

// Count returns how many entries were given up for others since the start.
func (c *Counter) Count() uint64 { return c.n.Load() }

// Of returns what a cache tells of the entries that it deletes. Entries that expire are not counted.
func Of[K comparable, V any](c *Counter) func(otter.DeletionEvent[K, V]) {
	return func(e otter.DeletionEvent[K, V]) {
		if e.Cause == otter.CauseOverflow {
			c.n.Add(1)
		}
	}
}
