package actors

import (
	"context"
	"sync"
	"time"
)

// writeTimeout bounds a write to the store that no viewer waits for. A closed session stays findable until it is stored.
const writeTimeout = 2 * time.Second

// lifecycle ends the goroutines and actors of a registry. It is safe for concurrent use.
type lifecycle struct {
	ctx    context.Context // ends when the registry closes
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines that run for sessions
	actors sync.WaitGroup
	gate   sync.RWMutex // held for reading while a session opens or a task starts
	isShut bool         // guarded by gate
	once   sync.Once
}

// newLifecycle returns a lifecycle of its own, not a request's: a check outlives the viewer that caused it.
func newLifecycle() *lifecycle {
	l := new(lifecycle)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
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
func (l *lifecycle) run(task func()) { l.tasks.Go(task) }

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

// writeContext returns the context of a write to the store. It outlives the registry: a denial just before a restart must be
// known after it.
func (l *lifecycle) writeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(l.ctx), writeTimeout)
}
