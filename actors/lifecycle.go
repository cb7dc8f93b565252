package actors

import (
	"context"
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
	l.workers = newWorkers(l.ctx.Done())
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

// run starts the task. Only an actor, a running task or the registry's constructor may call it: close waits for those.
func (l *lifecycle) run(task func()) {
	l.tasks.Add(1)
	l.workers.run(func() {
		defer l.tasks.Done()
		task()
	})
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

// workerIdle is how long a worker waits for its next task.
const workerIdle = time.Second

// workers run tasks on goroutines that they keep for a while: a new one for each of an opening's five tasks spends a tenth of the
// opening's CPU on growing its stack. Safe for concurrent use.
type workers struct {
	next chan func() // an idle worker receives from it
	done <-chan struct{}
}

func newWorkers(done <-chan struct{}) workers { return workers{next: make(chan func()), done: done} }

// run has a task run at once, by an idle worker or a new one.
func (w workers) run(task func()) {
	select {
	case w.next <- task:
	default:
		go w.work(task)
	}
}

func (w workers) work(task func()) {
	idle := time.NewTimer(workerIdle)
	defer idle.Stop()
	for {
		task()
		idle.Reset(workerIdle)
		select {
		case task = <-w.next:
		case <-idle.C:
			return
		case <-w.done:
			return
		}
	}
}
