package actors

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLifecycle_TryRun(t *testing.T) {
	t.Parallel()
	l, ran := newLifecycle(), 0
	defer l.cancel()
	if !l.tryRun(func() { ran++ }) {
		t.Error("a task is refused before the end")
	}
	l.tasks.Wait()
	l.shut()
	if l.tryRun(func() { ran++ }) {
		t.Error("a task is started after the end")
	}
	l.wait()
	if ran != 1 {
		t.Errorf("%d tasks ran, want the one before the end", ran)
	}
}

// TestWorkers keeps a worker that is used, ends one that is not, and runs what a task leads to on the same one.
func TestWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w workers
		go w.run(t.Context())
		numIdle := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.idle)
		}
		var ran atomic.Int64
		one := func() task { ran.Add(1); return nil }
		chain := func() task { ran.Add(1); return one }
		release := make(chan struct{})
		w.start(func() task { <-release; return chain })
		w.start(one)
		if numIdle() != 1 || ran.Load() != 1 {
			t.Errorf("%d workers rest after %d tasks, want 1 after 1", numIdle(), ran.Load())
		}
		close(release)
		for range 10 {
			if numIdle() == 0 {
				t.Error("no worker rests that was used a moment ago")
			}
			w.start(one)
			time.Sleep(workerIdle)
		}
		if numIdle() != 1 || ran.Load() != 1+2+10 {
			t.Errorf("%d workers rest after %d tasks, want the one that is used after 13", numIdle(), ran.Load())
		}
		time.Sleep(2 * workerIdle)
		if n := numIdle(); n != 0 {
			t.Errorf("%d workers rest for ever", n)
		}
		w.start(one)
		w.end()
		w.start(one)
		if n := numIdle(); n != 0 || ran.Load() != 15 {
			t.Errorf("%d workers rest after the end, and %d tasks ran; want none and 15", n, ran.Load())
		}
	})
}

// TestPass does the work again that is asked for while it is done, once.
func TestPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pass
		var done atomic.Int64
		l := newLifecycle()
		defer l.cancel()
		work := func() {
			time.Sleep(time.Second)
			done.Add(1)
		}
		p.ask(l, work)
		synctest.Wait()
		for range 5 {
			p.ask(l, work)
		}
		time.Sleep(10 * time.Second)
		if done.Load() != 2 {
			t.Errorf("done %d times, want 2", done.Load())
		}
		p.ask(l, work)
		l.tasks.Wait()
		if done.Load() != 3 {
			t.Errorf("done %d times, want once more", done.Load())
		}
	})
}
