package cluster

import (
	"context"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// firstPoll and lastPoll are how often it is looked for somebody else's answer: what was published is told, but a message
// may be lost.
const firstPoll, lastPoll = 25 * time.Millisecond, 100 * time.Millisecond

// waiting are claims that wait for somebody else's answer. Its zero value has none.
type waiting struct {
	mu sync.Mutex
	of map[backends.SessionID][]chan struct{}
}

// add returns what receives when there is news, and what is to be called afterwards.
func (w *waiting) add(id backends.SessionID) (news chan struct{}, done func()) {
	news = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = make(map[backends.SessionID][]chan struct{})
	}
	w.of[id] = append(w.of[id], news)
	return news, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		kept := w.of[id][:0]
		for _, other := range w.of[id] {
			if other != news {
				kept = append(kept, other)
			}
		}
		if w.of[id] = kept; len(kept) == 0 {
			delete(w.of, id)
		}
	}
}

// woken says that there is news of a session. It does not block.
func (w *waiting) woken(id backends.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, news := range w.of[id] {
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// wait claims again when there is news, now and then, and at the end of the caller's patience insists.
func (r *Redis) wait(ctx context.Context, c session.LeaseRequest) (session.LeaseResult, error) {
	news, done := r.waiting.add(c.ID)
	defer done()
	end := time.NewTimer(c.Wait)
	defer end.Stop()
	pause := firstPoll
	poll := time.NewTimer(pause)
	defer poll.Stop()
	for {
		insist := false
		select {
		case <-ctx.Done():
			return session.LeaseResult{}, ctx.Err()
		case <-end.C:
			insist = true
		case <-news:
		case <-poll.C:
			pause = min(2*pause, lastPoll)
			poll.Reset(pause)
		}
		got, err := r.claim(ctx, c, insist)
		if err != nil || !got.HeldElsewhere || insist {
			return got, err
		}
	}
}
