package actors

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
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

// TestRegistry_Close_IdleMeanwhile_RecordedOnce has viewers count as gone while the node that closes hands their sessions over.
func TestRegistry_Close_IdleMeanwhile_RecordedOnce(t *testing.T) {
	t.Parallel()
	for _, isShared := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			const sessions, idle = maxExpired + 1, time.Minute
			store := &slowHandOver{fakeCluster: &fakeCluster{isShared: isShared}, counted: map[backends.SessionID]int{}}
			n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) {
				s.Cluster, s.Config.IdleTimeout = store, idle
			})
			for i := range sessions {
				n.watch(t, openRequest(i))
			}
			time.Sleep(idle - time.Second)
			store.isSlow.Store(true)
			n.closeAndDrain()
			store.mu.Lock()
			defer store.mu.Unlock()
			if len(store.counted) != sessions {
				t.Errorf("shared %t: counted %d sessions, want all %d", isShared, len(store.counted), sessions)
			}
			for id, times := range store.counted {
				if times != 1 {
					t.Fatalf("shared %t: session %v counted %d times, want once", isShared, id, times)
				}
			}
		})
	}
}

// slowHandOver is a store that keeps account of the sessions whose counters it gets. When it is slow, the first heartbeat after that takes
// two seconds.
type slowHandOver struct {
	*fakeCluster
	isSlow atomic.Bool

	mu      sync.Mutex
	counted map[backends.SessionID]int
}

func (f *slowHandOver) AddCounters(ctx context.Context, id backends.SessionID, c session.Counters) error {
	f.mu.Lock()
	f.counted[id]++
	f.mu.Unlock()
	return f.fakeCluster.AddCounters(ctx, id, c)
}

func (f *slowHandOver) ExpireIdle(ctx context.Context, idle time.Duration, limit int) ([]session.ClosingRecord, error) {
	closed, err := f.fakeCluster.ExpireIdle(ctx, idle, limit)
	if len(closed) > 0 {
		f.pause()
	}
	return closed, err
}

func (f *slowHandOver) RecordHeartbeats(ctx context.Context, seen []session.Heartbeat) ([]backends.SessionID, error) {
	if f.Shared() {
		f.pause()
	}
	return f.fakeCluster.RecordHeartbeats(ctx, seen)
}

// pause takes two seconds, in which viewers count as gone.
func (f *slowHandOver) pause() {
	if f.isSlow.CompareAndSwap(true, false) {
		time.Sleep(2 * time.Second)
	}
}
