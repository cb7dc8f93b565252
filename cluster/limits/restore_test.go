package limits

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

// lostUsers is more than the queue of calls holds.
const lostUsers = 5000

// knowDenied has a node know that many users, of whom each has a denied stream.
func knowDenied(h *shared, users int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range users {
		denied := stream{facts: facts{ID: idOf(i), MaxStreams: 1}, State: session.StreamEvicted}
		known := storedSet{streams: streamSet{denied}, epoch: 1, writes: 1}
		h.users.set(fmt.Sprint("user ", i), &sharedUser{known: known}, cacheTTL)
	}
}

// queuedStore takes a while for a call, and rejects calls that find as many waiting as the client's queue holds. The first call for
// each tenth user fails too.
type queuedStore struct {
	mu             sync.Mutex
	waiting, peak  int
	stored, failed map[string]bool
}

func (*queuedStore) clock(string) (now, upSince int64, isKnown bool) { return testStart, 0, true }

func (s *queuedStore) swap(name, _ string, _ versioned, _ time.Duration, _ bool) (versioned, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= 4096 {
		return versioned{}, false, redisclient.ErrNotSent
	}
	if s.waiting++; s.waiting > s.peak {
		s.peak = s.waiting
	}
	s.mu.Unlock()
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	s.waiting--
	if name[len(name)-1] == '7' && !s.failed[name] {
		s.failed[name] = true
		return versioned{}, false, errLost
	}
	s.stored[name] = true
	return versioned{}, true, nil
}

// TestShared_RestoreDenied_ManyUsers restores all users, and leaves the queue of calls to viewers.
func TestShared_RestoreDenied_ManyUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &queuedStore{stored: make(map[string]bool), failed: make(map[string]bool)}
		h := newTestShared(f, session.EvictOldest)
		knowDenied(h, lostUsers)
		h.restoreDenied(t.Context())
		time.Sleep(time.Minute) // for what it has left to others
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.stored) != lostUsers || f.peak > concurrentRestores {
			t.Errorf("%d users are restored, %d at once; want all %d, at most %d at once", len(f.stored), f.peak, lostUsers, concurrentRestores)
		}
	})
}
