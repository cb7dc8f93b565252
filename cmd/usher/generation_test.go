package main

import (
	goruntime "runtime"
	"sync"
	"testing"
)

// isIdle reports whether the generation is known to be idle.
func isIdle(g *generation) bool {
	select {
	case <-g.idle:
		return true
	default:
		return false
	}
}

// TestGeneration_release has requests on several lanes end after the generation was replaced. It is idle with the last one, in whichever
// order they end.
func TestGeneration_release(t *testing.T) {
	t.Parallel()
	n, g := new(node), newGeneration(nil)
	n.current.Store(g)
	for _, lane := range []uint32{1, 2, 2 + numLanes} {
		n.acquire(lane)
	}
	g.release(1)
	if isIdle(g) {
		t.Fatal("idle before it was replaced")
	}
	n.acquire(1)
	n.current.Store(newGeneration(nil))
	g.replaced()
	for _, lane := range []uint32{2, 1, 2} {
		if isIdle(g) {
			t.Fatalf("idle while a request of lane %d is served", lane)
		}
		g.release(lane)
	}
	if !isIdle(g) {
		t.Error("not idle after its last request")
	}
}

// TestGeneration_release_Race has requests begin and end while their generation is replaced. It becomes idle, and not before the last of
// them has ended.
func TestGeneration_release_Race(t *testing.T) {
	t.Parallel()
	for range 500 {
		n, old := new(node), newGeneration(nil)
		n.current.Store(old)
		var requests sync.WaitGroup
		for lane := range uint32(numLanes) {
			requests.Go(func() {
				for range 20 {
					g := n.acquire(lane)
					goruntime.Gosched()
					if isIdle(old) && g == old {
						t.Error("a request is served by a generation that is idle")
					}
					g.release(lane)
				}
			})
		}
		goruntime.Gosched()
		n.current.Store(newGeneration(nil))
		old.replaced()
		<-old.idle
		requests.Wait()
	}
}
