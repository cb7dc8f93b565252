package actors

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// expiryStore is a store with one expired session, that keeps account of what it is asked.
type expiryStore struct {
	*fakeCluster

	mu      sync.Mutex
	expired []session.ClosingRecord
	idle    []time.Duration
	left    []string
	err     error
}

func (e *expiryStore) ExpireIdle(_ context.Context, idle time.Duration, _ int) ([]session.ClosingRecord, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle = append(e.idle, idle)
	expired := e.expired
	e.expired = nil
	return expired, e.err
}

func (e *expiryStore) ReportStreams(_ context.Context, of ...session.StreamEntry) session.LimitResult {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range of {
		if one.IsLeaving {
			e.left = append(e.left, one.User)
		}
	}
	return session.LimitResult{States: make([]session.StreamState, len(of))}
}

// TestHeartbeatReporter_Expire closes what no node has seen for the idle timeout and one heartbeat, and frees the stream.
func TestHeartbeatReporter_Expire(t *testing.T) {
	t.Parallel()
	limited := allowedDecision()
	limited.MaxSessions = 1
	for name, test := range map[string]struct {
		record session.Record
		err    error
		left   []string
		logged []string
	}{
		"a user with a limit": {
			session.Record{Request: openRequest(1).Request, Decision: limited},
			nil,
			[]string{hashPrefix + "portal\x00id\x0017"},
			[]string{`msg="session closed"`, "channel=a001", "user_id=17", "duration=1m30s", "unverified=5s", "requests=7"},
		},
		"a user without": {
			session.Record{Request: openRequest(1).Request, Decision: allowedDecision()}, nil, nil, []string{`msg="session closed"`},
		},
		"a session whose request is not known": {
			session.Record{Decision: limited}, nil, nil, []string{`msg="session closed"`, `channel=""`},
		},
		"the store fails": {
			session.Record{Request: openRequest(1).Request, Decision: limited},
			errBroken,
			[]string{hashPrefix + "portal\x00id\x0017"},
			[]string{`msg="session closed"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var text lockedBuffer
			store := &expiryStore{fakeCluster: new(fakeCluster), err: test.err}
			c := core{
				life: newLifecycle(), cluster: &clusterClient{Cluster: store},
				log: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})),
			}
			h := newHeartbeatReporter(c, newStreamLimits(c, PerUserConfig{}), nil, 20*time.Second, time.Minute)
			h.conclude(t.Context(), session.ClosingRecord{
				Record: test.record, Since: t0(), LastSeen: in(90 * time.Second),
				Counters: session.Counters{Requests: 7, Unverified: 5 * time.Second},
			})
			if !slices.Equal(store.left, test.left) {
				t.Errorf("freed %q, want %q", store.left, test.left)
			}
			for _, part := range test.logged {
				if !strings.Contains(text.String(), part) {
					t.Errorf("the log lacks %s:\n%s", part, text.String())
				}
			}
			store.expired = []session.ClosingRecord{{}}
			if got, want := h.expire(), 1; test.err == nil && got != want || test.err != nil && got != 0 {
				t.Errorf("%d closed, want %d unless the store fails", got, want)
			}
			if got := strings.Count(text.String(), "session closed"); got != 2 {
				t.Errorf("%d closing records, want that of conclude, and that of expire though the store fails:\n%s", got, &text)
			}
			if !slices.Equal(store.idle, []time.Duration{80 * time.Second}) {
				t.Errorf("the store was asked for sessions idle for %v, want 1m20s", store.idle)
			}
		})
	}
}

// TestHeartbeatReporter_RunExpiry looks again at once while there are expired sessions, and else every expiryInterval.
func TestHeartbeatReporter_RunExpiry(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &expiryStore{fakeCluster: new(fakeCluster), expired: []session.ClosingRecord{{}}}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) { s.Cluster = store })
		defer n.closeAndDrain()
		time.Sleep(2*expiryInterval + time.Second)
		store.mu.Lock()
		defer store.mu.Unlock()
		if len(store.idle) != 3 || strings.Count(n.log.String(), "session closed") != 1 {
			t.Errorf("the store was asked %d times, want three; log:\n%s", len(store.idle), n.log.String())
		}
	})
}

// TestHeartbeatReporter_HandOver_OpenSessions stores what this node counted of the sessions that others may continue.
func TestHeartbeatReporter_HandOver_OpenSessions(t *testing.T) {
	t.Parallel()
	for _, isShared := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			store := &fakeCluster{isShared: isShared}
			b := newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
				if r.Session == idOf(2) {
					return hang(ctx, r)
				}
				return allowedDecision(), nil
			})
			n := newNode(b, store, nil)
			for range 3 {
				n.watch(t, openRequest(1))
			}
			n.watch(t, openRequest(3))
			n.table.find(idOf(3)).isClosed.Store(true)
			ctx, leave := context.WithCancel(t.Context())
			go func() { _, _ = n.Open(ctx, openRequest(2)) }()
			synctest.Wait()
			n.closeAndDrain()
			leave()
			var want []int64
			if isShared {
				want = []int64{3} // one has closed before, one has not opened
			}
			var got []int64
			for _, c := range store.closing {
				got = append(got, c.Counters.Requests)
			}
			if !slices.Equal(got, want) {
				t.Errorf("shared %t: handed over sessions with %v requests, want %v", isShared, got, want)
			}
		})
	}
}
