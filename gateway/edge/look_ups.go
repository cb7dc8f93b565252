package edge

import (
	"sync/atomic"
	"time"

	"usher/backends"
)

const (
	// maxLookUps is how many fruitless look-ups of viewers whom a node does not know it makes in a second, and maxLookUpsOfAddress
	// for viewers of one address. A look-up costs Redis some ten microseconds, and a stranger nothing.
	maxLookUps, maxLookUpsOfAddress = 5000, 50
	// numLookUpCells is in how many cells addresses are counted, a power of two.
	numLookUpCells = 1 << 14
)

// LookUps bounds how often viewers are looked up whom nobody knows. One that finds a viewer does not count once it is over, so that
// after a restart a node finds all of them. It is safe for concurrent use. The zero value is ready.
type LookUps struct {
	all   lookUpCount
	cells [numLookUpCells]lookUpCount // by the last bits of a hash of the address
}

// Begin counts a look-up for a viewer of an address, of which it takes a hash. The error is a *backends.Overload.
func (l *LookUps) Begin(address uint64, now time.Time) error {
	cell := &l.cells[address%numLookUpCells]
	if !cell.add(now, maxLookUpsOfAddress) {
		return backends.NewOverload("unknown viewers of an address at edges", maxLookUpsOfAddress)
	}
	if !l.all.add(now, maxLookUps) {
		cell.remove(now)
		return backends.NewOverload("unknown viewers at edges", maxLookUps)
	}
	return nil
}

// Found takes back what Begin counted at that time.
func (l *LookUps) Found(address uint64, now time.Time) {
	l.cells[address%numLookUpCells].remove(now)
	l.all.remove(now)
}

// lookUpCount is a second and how many look-ups it has had.
type lookUpCount struct{ word atomic.Uint64 }

const (
	countBits = 32
	countMask = 1<<countBits - 1
)

// add reports whether there is room, and counts one look-up then.
func (c *lookUpCount) add(now time.Time, most uint64) bool {
	for {
		old, next := c.word.Load(), uint64(now.Unix())<<countBits|1
		if old>>countBits == next>>countBits {
			if next = old + 1; old&countMask >= most {
				return false
			}
		}
		if c.word.CompareAndSwap(old, next) {
			return true
		}
	}
}

// remove takes one look-up of that second back.
func (c *lookUpCount) remove(now time.Time) {
	for {
		old := c.word.Load()
		if old>>countBits != uint64(now.Unix()) || old&countMask == 0 || c.word.CompareAndSwap(old, old-1) {
			return
		}
	}
}
