package actors

import (
	"context"
	"fmt"
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

	confirmed int
}

func (e *expiryStore) ConfirmClosed(_ context.Context, closed []session.ClosingRecord) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.confirmed += len(closed)
	return nil
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

// TestHeartbeatReporter_Expire closes what no node has seen for the idle timeout and one heartbeat, has it recorded, and frees
// the stream. What is not recorded is not confirmed either, and stays as it is.
func TestHeartbeatReporter_Expire(t *testing.T) {
	t.Parallel()
	limited := allowedDecision()
	limited.MaxSessions = 1
	ofLimited := session.Record{Request: openRequest(1).Request, Decision: limited}
	user := []string{hashPrefix + "portal\x00id\x0017"}
	for name, test := range map[string]struct {
		record    session.Record
		isShared  bool
		err       error // of the store
		recordErr error
		returned  bool // the viewer
		left      []string
		confirmed int
		more      bool // another look may find more
	}{
		"a user with a limit":                    {record: ofLimited, left: user, confirmed: 1, more: true},
		"a user without":                         {record: session.Record{Request: openRequest(1).Request, Decision: allowedDecision()}, confirmed: 1, more: true},
		"a session whose request is not known":   {record: session.Record{Decision: limited}, confirmed: 1, more: true},
		"a viewer who has come back":             {record: ofLimited, isShared: true, returned: true, confirmed: 1, more: true},
		"the store fails":                        {record: ofLimited, err: errBroken, left: user, confirmed: 1},
		"the record is lost on a shared store":   {record: ofLimited, isShared: true, recordErr: errBroken},
		"the record is lost on the only node":    {record: ofLimited, recordErr: errBroken, left: user, confirmed: 1, more: true},
		"a shared store, and the record is kept": {record: ofLimited, isShared: true, left: user, confirmed: 1, more: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &expiryStore{fakeCluster: &fakeCluster{isShared: test.isShared}, err: test.err}
			store.expired = []session.ClosingRecord{{Record: test.record, HasReturned: test.returned}}
			life := newLifecycle()
			defer life.cancel()
			c := core{life: life, cluster: &clusterClient{Cluster: store, life: life}, log: slog.New(slog.DiscardHandler)}
			h := newHeartbeatReporter(c, newStreamLimits(c, PerUserConfig{}), nil, 20*time.Second, time.Minute)
			recorded := 0
			h.onClosed = func(all []session.ClosingRecord) error {
				recorded += len(all)
				return test.recordErr
			}
			if more := h.expire(h.idleTimeout+h.interval) > 0; more != test.more {
				t.Errorf("looks again: %t, want %t", more, test.more)
			}
			if !slices.Equal(store.left, test.left) {
				t.Errorf("freed %q, want %q", store.left, test.left)
			}
			if recorded != 1 || store.confirmed != test.confirmed {
				t.Errorf("%d recorded and %d confirmed, want 1 and %d", recorded, store.confirmed, test.confirmed)
			}
			if !slices.Equal(store.idle, []time.Duration{80 * time.Second}) {
				t.Errorf("the store was asked for sessions idle for %v, want 1m20s", store.idle)
			}
		})
	}
}

// distantStore is a store whose answers take a while, and that does nothing for a call whose time is over.
type distantStore struct{ *expiryStore }

func (d *distantStore) ReportStreams(ctx context.Context, of ...session.StreamEntry) session.LimitResult {
	select {
	case <-time.After(5 * time.Millisecond):
		return d.expiryStore.ReportStreams(ctx, of...)
	case <-ctx.Done():
		return session.LimitResult{States: make([]session.StreamState, len(of))}
	}
}

func (d *distantStore) ConfirmClosed(ctx context.Context, closed []session.ClosingRecord) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.expiryStore.ConfirmClosed(ctx, closed)
}

// TestHeartbeatReporter_Expire_DistantStore frees and confirms all that one look finds, over a link on which one call after another
// would take longer than a write may.
func TestHeartbeatReporter_Expire_DistantStore(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const sessions = 448 // 7 in each of 64 buckets
		limited := allowedDecision()
		limited.MaxSessions = 1
		store := &distantStore{&expiryStore{fakeCluster: &fakeCluster{isShared: true}}}
		for i := range sessions {
			store.expired = append(store.expired, session.ClosingRecord{Record: session.Record{Request: openRequest(i).Request, Decision: limited}})
		}
		life := newLifecycle()
		defer life.cancel()
		c := core{life: life, cluster: &clusterClient{Cluster: store, life: life}, log: slog.New(slog.DiscardHandler)}
		h := newHeartbeatReporter(c, newStreamLimits(c, PerUserConfig{}), nil, 20*time.Second, time.Minute)
		h.expire(h.idleTimeout + h.interval)
		if len(store.left) != sessions || store.confirmed != sessions {
			t.Errorf("%d streams freed and %d sessions confirmed, want %d of each", len(store.left), store.confirmed, sessions)
		}
	})
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

// TestHeartbeatReporter_HandOver_OpenSessions stores what this node counted of the sessions that others may continue. Without
// others they close.
func TestHeartbeatReporter_HandOver_OpenSessions(t *testing.T) {
	t.Parallel()
	for _, isShared := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			store := &fakeCluster{isShared: isShared}
			b := newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
				switch r.Session {
				case idOf(2):
					return hang(ctx, r)
				case idOf(4):
					return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
				}
				return allowedDecision(), nil
			})
			var recorded []session.ClosingRecord
			n := newNode(b, store, func(s *setup) {
				s.OnClosed = func(all []session.ClosingRecord) error {
					recorded = append(recorded, all...)
					return nil
				}
			})
			for range 3 {
				n.watch(t, openRequest(1))
			}
			n.watch(t, openRequest(3))
			n.table.find(idOf(3)).flags.set(flagClosed, true)
			n.watch(t, openRequest(4))
			ctx, leave := context.WithCancel(t.Context())
			go func() { _, _ = n.Open(ctx, openRequest(2)) }()
			synctest.Wait()
			n.closeAndDrain()
			leave()
			if isShared { // one has closed before, one has not opened
				if len(store.closing) != 2 || len(recorded) != 0 {
					t.Errorf("handed over %+v and recorded %+v, want two handed over", store.closing, recorded)
				}
				return
			}
			if len(recorded) != 1 || recorded[0].Counters.Requests != 3 || recorded[0].Reason().String() != "node-stopped" ||
				recorded[0].Record.Request == nil || recorded[0].Record.Decision.Verdict != backends.Allowed {
				t.Errorf("recorded %+v, want the session that was watched, as ended with the node", recorded)
			}
		})
	}
}

// TestHeartbeatReporter_HandOver_ReturnedAndRefused has a node without others end while it remembers a viewer who came back to a session
// that had not closed, and was refused: the session is recorded, and the store's yes stays.
func TestHeartbeatReporter_HandOver_ReturnedAndRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isClosed bool
		want     int
	}{
		"one that had not closed": {false, 1},
		"one that had":            {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store, recorded := new(fakeCluster), 0
				store.banned = func(_ *backends.Request, d *backends.Decision) (session.Ban, bool) { // a ban of a user whom the record names
					return session.Ban{ID: "b"}, d != nil
				}
				store.set(session.Record{
					ID: idOf(1), Opened: time.Now().Add(-time.Minute), Decision: allowedDecision(), Expires: time.Now().Add(time.Hour),
					Request: openRequest(1).Request, IsClosed: test.isClosed,
				})
				n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, func(s *setup) {
					s.OnClosed = func(all []session.ClosingRecord) error {
						recorded += len(all)
						return nil
					}
				})
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Fatalf("%v, want denied", d.Verdict)
				}
				n.closeAndDrain()
				if recorded != test.want {
					t.Errorf("%d sessions recorded, want %d", recorded, test.want)
				}
				if r := store.get(idOf(1)); r.Decision != allowedDecision() {
					t.Errorf("the store has %+v, want the yes", r.Decision)
				}
			})
		})
	}
}

// TestHeartbeatReporter_OnOpen_SeenSessions has a node without others keep its open sessions with each heartbeat, so that a
// kill loses little.
func TestHeartbeatReporter_OnOpen_SeenSessions(t *testing.T) {
	t.Parallel()
	for _, isShared := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			var mu sync.Mutex
			var requests []int64
			n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{isShared: isShared}, func(s *setup) {
				s.OnOpen = func(open []session.ClosingRecord) {
					mu.Lock()
					defer mu.Unlock()
					for _, c := range open {
						requests = append(requests, c.Counters.Requests)
					}
				}
			})
			defer n.closeAndDrain()
			interval := n.heartbeats.interval
			time.Sleep(time.Millisecond) // not in the moment of the start
			for i, pause := range []time.Duration{2 * openedInterval, 2 * interval} {
				n.watch(t, openRequest(1))
				time.Sleep(pause)
				want := []int64{1, 2}[:i+1]
				if isShared {
					want = nil // the store has it
				}
				mu.Lock()
				if !slices.Equal(requests, want) {
					t.Errorf("shared %t: kept sessions with %v requests, want %v", isShared, requests, want)
				}
				mu.Unlock()
			}
		})
	}
}

// TestHeartbeatReporter_OnOpen_CountedAfterwards keeps a session again whose request or answer was counted after it was kept, though
// the request came before that.
func TestHeartbeatReporter_OnOpen_CountedAfterwards(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var kept []string
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) {
			s.OnOpen = func(open []session.ClosingRecord) {
				mu.Lock()
				defer mu.Unlock()
				for _, c := range open {
					kept = append(kept, fmt.Sprint(c.Counters.Requests, " ", c.Counters.Bytes))
				}
			}
		})
		defer n.closeAndDrain()
		time.Sleep(time.Millisecond)
		arrived := time.Now()
		n.watch(t, openRequest(1))
		s := n.Find(idOf(1))
		wait := func() { time.Sleep(n.heartbeats.interval) }
		time.Sleep(2 * openedInterval)
		s.Begin()
		s.Seen(arrived, true)
		wait()
		s.Sent(5)
		s.End(time.Now())
		wait()
		mu.Lock()
		defer mu.Unlock()
		if want := []string{"1 0", "2 0", "2 5"}; !slices.Equal(kept, want) {
			t.Errorf("kept requests and bytes %q, want %q", kept, want)
		}
	})
}

// TestRegistry_LongResponse_NotIdle keeps a session whose response is still being sent, however long that takes, and records it once.
// A shared store hears meanwhile that its viewer is there.
func TestRegistry_LongResponse_NotIdle(t *testing.T) {
	t.Parallel()
	const idle = time.Minute
	for _, isShared := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			store := &heartbeatRecorder{fakeCluster: &fakeCluster{isShared: isShared}}
			var mu sync.Mutex
			var closed []session.ClosingRecord
			n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) {
				s.Cluster, s.Config.IdleTimeout, s.HeartbeatInterval = store, idle, 16*time.Second
				s.OnClosed = func(all []session.ClosingRecord) error {
					mu.Lock()
					defer mu.Unlock()
					closed = append(closed, all...)
					return nil
				}
			})
			defer n.closeAndDrain()
			n.watch(t, openRequest(1))
			s := n.Find(idOf(1))
			s.Begin()
			time.Sleep(3 * idle)
			if n.Find(idOf(1)) != s {
				t.Errorf("shared %t: the session closed while its response was sent", isShared)
			}
			if seen := store.of(1); isShared && (len(seen) == 0 || time.Since(seen[len(seen)-1]) > 20*time.Second) {
				t.Errorf("the store heard of the viewer at %v, now it is %v", seen, time.Now())
			}
			s.Sent(5)
			s.End(time.Now())
			ended := time.Now()
			time.Sleep(idle - time.Second)
			if n.Find(idOf(1)) != s {
				t.Errorf("shared %t: the session closed before its viewer was silent for the idle timeout", isShared)
			}
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if len(closed) != 1 || closed[0].Counters.Bytes != 5 {
				t.Errorf("shared %t: recorded %+v, want the session once, with 5 bytes", isShared, closed)
			}
			if seen := store.of(1); len(seen) == 0 || !seen[len(seen)-1].Equal(ended) {
				t.Errorf("shared %t: last heard of the viewer at %v, want the end of the response at %v", isShared, seen, ended)
			}
		})
	}
}

// TestHeartbeatReporter_RunExpiry_Started has a node that has just started close none of the sessions that the others may have seen
// while they could not report it. It asks the store from the start.
func TestHeartbeatReporter_RunExpiry_Started(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &expiryStore{fakeCluster: &fakeCluster{isShared: true}}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) { s.Cluster = store })
		defer n.closeAndDrain()
		idle := n.heartbeats.idleTimeout + n.heartbeats.interval
		time.Sleep(idle + expiryInterval)
		store.mu.Lock()
		defer store.mu.Unlock()
		for i, asked := range store.idle {
			want := noneIsIdle
			if after := time.Duration(i+1) * expiryInterval; after >= idle {
				want = idle
			}
			if asked != want {
				t.Errorf("the store was asked for sessions idle for %v, want %v: %v after the start", asked, want, time.Duration(i+1)*expiryInterval)
			}
		}
		if got, least := len(store.idle), int(idle/expiryInterval); got < least {
			t.Errorf("the store was asked %d times, want %d at least", got, least)
		}
	})
}
