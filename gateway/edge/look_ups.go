package edge

import (
	"sync/atomic"
	"time"

	"usher/backends"
)

const (
	// maxLookUps is how many fruitless look-ups a node makes in a second of viewers whom it does not know, and maxLookUpsOfAddress for
	// viewers of one address. A viewer takes one for each folder of their path, and as many with credentials. A look-up costs Redis seven
	// microseconds, and a stranger nothing.
	maxLookUps, maxLookUpsOfAddress = 5000, 100
	// numLookUpCells is in how many cells addresses are counted, a power of two.
	numLookUpCells = 1 << 14
)

// LookUps bounds how often viewers are looked up whom nobody knows. One that finds a viewer does not count once it is over, so that
// after a restart a node finds all of them. What a viewer can do without takes half of the room at most, so that there is some for those
// who cannot. It is safe for concurrent use. The zero value is ready.
type LookUps struct {
	all   lookUpCount
	cells [numLookUpCells]lookUpCount // by the last bits of a hash of the address
}

// Begin counts n look-ups for a viewer of an address, of which it takes a hash. isSpare: the viewer can do without. The error is a
// *backends.Overload.
func (l *LookUps) Begin(address uint64, n int, isSpare bool, now time.Time) error {
	parts := uint64(1) // of the room, of which these look-ups may take one
	if isSpare {
		parts = 2
	}
	cell := &l.cells[address%numLookUpCells]
	if !cell.add(n, now, maxLookUpsOfAddress/parts) {
		return backends.NewOverload("unknown viewers of an address at edges", maxLookUpsOfAddress)
	}
	if !l.all.add(n, now, maxLookUps/parts) {
		cell.remove(n, now)
		return backends.NewOverload("unknown viewers at edges", maxLookUps)
	}
	return nil
}

// Found takes back what Begin counted at that time.
func (l *LookUps) Found(address uint64, n int, now time.Time) {
	l.cells[address%numLookUpCells].remove(n, now)
	l.all.remove(n, now)
}

// lookUpCount is a second and how many look-ups it has had.
type lookUpCount struct{ word atomic.Uint64 }

const (
	countBits = 32
	countMask = 1<<countBits - 1
)

// add reports whether there is room, and counts n look-ups then. Those of one viewer may be more than most.
func (c *lookUpCount) add(n int, now time.Time, most uint64) bool {
	for {
		old, next := c.word.Load(), uint64(now.Unix())<<countBits
		if old>>countBits == next>>countBits {
			if next = old; old&countMask+uint64(n) > most && old&countMask > 0 {
				return false
			}
		}
		if c.word.CompareAndSwap(old, next+uint64(n)) {
			return true
		}
	}
}

// remove takes n look-ups of that second back.
func (c *lookUpCount) remove(n int, now time.Time) {
	for {
		old := c.word.Load()
		if old>>countBits != uint64(now.Unix()) || c.word.CompareAndSwap(old, old-min(old&countMask, uint64(n))) {
			return
		}
	}
}
