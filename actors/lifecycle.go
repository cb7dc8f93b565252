package actors

import (
	"context"
	"slices"
	"sync"
	"time"

	"usher/backends"
)

// lifecycle ends the goroutines and actors of a registry. It is safe for concurrent use.
type lifecycle struct {
	ctx    context.Context // ends when the registry closes
	cancel context.CancelFunc
	// branches end with ctx. See branchOf.
	branches [numBranches]context.Context
	tasks    sync.WaitGroup // those that run for sessions
	actors   sync.WaitGroup
	gate     sync.RWMutex // held for reading while a session opens or a task starts
	isShut   bool         // guarded by gate
	once     sync.Once

	workers workers // the goroutines of tasks and actors
}

// newLifecycle returns a lifecycle of its own, not a request's: a check outlives the viewer that caused it.
func newLifecycle() *lifecycle {
	l := new(lifecycle)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for i := range l.branches {
		branch, end := context.WithCancel(l.ctx)
		context.AfterFunc(l.ctx, end)
		l.branches[i] = branch
	}
	context.AfterFunc(l.ctx, l.workers.end)
	return l
}

// numBranches is a power of two, so that a byte of an id picks one of them.
const numBranches = 64

// branchOf returns the context from which those of a session's calls are made. Each takes the lock of the one that it is made from: if
// the store is slow for a moment, thousands of calls are under way, and wait longer for one lock of all than for the store.
func (l *lifecycle) branchOf(id backends.SessionID) context.Context {
	return l.branches[id[0]%numBranches]
}

// isEnding reports whether the registry is about to close.
func (l *lifecycle) isEnding() bool { return l.ctx.Err() != nil }

// lock keeps the registry open until unlock, and reports false if it is shut already; then unlock must not be called.
func (l *lifecycle) lock() bool {
	l.gate.RLock()
	if l.isShut {
		l.gate.RUnlock()
		return false
	}
	return true
}

func (l *lifecycle) unlock() { l.gate.RUnlock() }

// tryRun starts the task, or reports false if the registry is shut. It does not block.
func (l *lifecycle) tryRun(task func()) bool {
	if !l.lock() {
		return false
	}
	defer l.unlock()
	l.run(task)
	return true
}

// run starts f. Only an actor, a running task or the registry's constructor may call it: close waits for those.
func (l *lifecycle) run(f func()) {
	l.workers.start(l.task(func() task { f(); return nil }))
}

// task returns a task for which close waits from now on. The same may call it as run.
func (l *lifecycle) task(t task) task {
	l.tasks.Add(1)
	return func() task {
		defer l.tasks.Done()
		return t()
	}
}

// shut refuses new sessions and tasks from now on.
func (l *lifecycle) shut() {
	l.gate.Lock()
	l.isShut = true
	l.gate.Unlock()
}

// wait returns when all actors and tasks have ended.
func (l *lifecycle) wait() {
	l.actors.Wait() // only actors start what is waited for next
	l.tasks.Wait()
}

// task is what a worker runs. It returns what the same worker runs after it, so that one who waits for that need not wake another
// goroutine; nil: nothing.
type task func() (next task)

// workerIdle is how long a worker waits for its next task, at least.
const workerIdle = time.Second

// workers run tasks on goroutines that they keep for a while: a new one for each of an opening's tasks spends a tenth of the
// opening's CPU on growing its stack. The one that has rested for the shortest time comes first, because its stack has grown and is
// in the caches. The zero value is ready for use, and safe for concurrent use.
type workers struct {
	mu     sync.Mutex
	idle   []*worker // the one that has rested for the longest first
	turn   int       // how often workerIdle has passed
	isOver bool      // none rests any more
}

type worker struct {
	next   chan task // nil: the worker ends
	rested int       // the turn in which it began to rest
}

// start has a task run at once, by a resting worker or a new one.
func (w *workers) start(t task) {
	w.mu.Lock()
	last := len(w.idle) - 1
	if last < 0 {
		w.mu.Unlock()
		go w.work(t)
		return
	}
	rested := w.idle[last]
	w.idle[last], w.idle = nil, w.idle[:last]
	w.mu.Unlock()
	rested.next <- t
}

func (w *workers) work(t task) {
	self := &worker{next: make(chan task, 1)}
	for t != nil {
		for t != nil {
			t = t()
		}
		if w.rest(self) {
			t = <-self.next
		}
	}
}

// rest lets start find the worker, and reports false if it shall end instead.
func (w *workers) rest(self *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isOver {
		return false
	}
	self.rested = w.turn
	w.idle = append(w.idle, self)
	return true
}

// run ends workers that rest for long, until ctx ends.
func (w *workers) run(ctx context.Context) {
	ticker := time.NewTicker(workerIdle)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.nextTurn()
		case <-ctx.Done():
			return
		}
	}
}

// nextTurn ends the workers that have rested for a whole turn.
func (w *workers) nextTurn() {
	w.mu.Lock()
	n := 0
	for n < len(w.idle) && w.idle[n].rested < w.turn {
		n++
	}
	rested := slices.Clone(w.idle[:n])
	w.idle = slices.Delete(w.idle, 0, n)
	w.turn++
	w.mu.Unlock()
	endAll(rested)
}

// end ends the workers that rest, and lets no other rest.
func (w *workers) end() {
	w.mu.Lock()
	rested := w.idle
	w.idle, w.isOver = nil, true
	w.mu.Unlock()
	endAll(rested)
}

// endAll ends workers that nobody else has. It wakes each, so the caller holds no lock.
func endAll(rested []*worker) {
	for _, one := range rested {
		one.next <- nil
	}
}
