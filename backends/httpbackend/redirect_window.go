package httpbackend

import (
	"sync"
	"time"
)

const (
	// redirectWindowLength is the time in which answers are compared.
	redirectWindowLength = time.Minute
	// minWindowAnswers is how many answers a window must have before it says anything.
	minWindowAnswers = 20
	// maxWindowTargets bounds how many targets are told apart. A target of more than half of the answers is among the first.
	maxWindowTargets = 64
)

// redirectWindow notices that most answers are the same redirect. Then it says nothing about a viewer: the backend has
// moved. The zero value is ready. Safe for concurrent use.
type redirectWindow struct {
	mu      sync.Mutex
	start   time.Time
	answers int
	targets map[string]int
	moved   string // the target that has most answers; empty: none
}

// isMoved records an answer that redirects to the target, or to none, and reports whether most answers do.
func (w *redirectWindow) isMoved(now time.Time, target string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.start) >= redirectWindowLength {
		if w.answers < minWindowAnswers {
			w.moved = ""
		}
		w.start, w.answers = now, 0
		clear(w.targets)
	}
	w.answers++
	if _, isKnown := w.targets[target]; target != "" && (isKnown || len(w.targets) < maxWindowTargets) {
		if w.targets == nil {
			w.targets = make(map[string]int)
		}
		w.targets[target]++
	}
	if w.answers >= minWindowAnswers {
		if !w.hasMost(w.moved) {
			w.moved = ""
		}
		if target != "" && w.hasMost(target) {
			w.moved = target
		}
	}
	return target != "" && target == w.moved
}

// hasMost reports whether more than half of the window's answers redirect to the target. The caller holds mu.
func (w *redirectWindow) hasMost(target string) bool { return 2*w.targets[target] > w.answers }
