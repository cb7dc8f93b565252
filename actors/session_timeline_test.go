package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

// timelineOf returns the session's timeline in a line an entry: trigger, backend, duration, verdict, source, error.
func (n *node) timelineOf(t *testing.T, id backends.SessionID) (lines []string) {
	t.Helper()
	entries, found := n.Timeline(id)
	if !found {
		t.Fatal("session not found")
	}
	for _, e := range entries {
		line := fmt.Sprintf("%v %s %v %v/%v", e.Trigger, e.Backend, e.Duration, e.Verdict, e.Source)
		if e.Error != "" {
			line += ": " + e.Error
		}
		lines = append(lines, line)
	}
	return lines
}

func wantTimeline(t *testing.T, n *node, want ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, n.timelineOf(t, idOf(1))); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
}

// TestSessionActor_Timeline follows a session through an outage until an operator kicks it.
func TestSessionActor_Timeline(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			time.Sleep(12300 * time.Microsecond)
			return allowedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.rules.Validity = time.Minute })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		want := []string{"opening portal 12.3ms allowed/backend"}
		wantTimeline(t, n, want...)
		n.keepWatching(t, openRequest(1), time.Minute, nil)
		want = append(want, "recheck portal 12.3ms allowed/backend")
		wantTimeline(t, n, want...)

		b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) {
			time.Sleep(2 * time.Second)
			return backends.Decision{}, &backends.Failure{
				Kind: backends.FailureTransport, Backend: "portal", Err: errors.New("connection refused"),
			}
		})
		n.keepWatching(t, openRequest(1), time.Minute, nil)
		want = append(want, "recheck portal 2s allowed/cached: transport: connection refused")
		wantTimeline(t, n, want...)

		b.setCheck(nil)
		n.keepWatching(t, openRequest(1), 15*time.Second, nil)
		want = append(want, "recheck portal 0s allowed/backend")
		wantTimeline(t, n, want...)

		b.health.Store(uint32(backends.BreakerOpen))
		n.keepWatching(t, openRequest(1), time.Minute, nil)
		want = append(want, "expiry portal 0s allowed/cached: breaker-open")
		wantTimeline(t, n, want...)

		n.OnRevocation(session.Revocation{
			Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Now(), Decision: session.Kicked("shares the account"),
		})
		want = append(want, "kick  0s denied/operator")
		wantTimeline(t, n, want...)
		entries, _ := n.Timeline(idOf(1))
		if got := entries[len(entries)-1]; got.Reason != "ended by an operator: shares the account" || !got.Time.Equal(time.Now().Truncate(time.Millisecond)) {
			t.Errorf("the kick is %+v, want the operator's reason and the time of now", got)
		}
		for _, e := range entries {
			if text := fmt.Sprintf("%+v", e); strings.Contains(text, "s3cret") || strings.Contains(text, "index.m3u8") {
				t.Errorf("entry %s holds the viewer's token or path", text)
			}
		}
	})
}

// TestSessionActor_Timeline_Openings opens in ways that need no answer of the backend.
func TestSessionActor_Timeline_Openings(t *testing.T) {
	t.Parallel()
	known := func(d backends.Decision) *fakeCluster {
		store := &fakeCluster{isShared: true}
		store.set(session.Record{
			ID: idOf(1), Opened: t0(), KeyID: "a", Decision: d, Expires: time.Now().Add(time.Hour), Revision: 1,
			Request: openRequest(1).Request,
		})
		return store
	}
	slow := func(context.Context) error {
		time.Sleep(3 * time.Millisecond)
		return nil
	}
	tests := map[string]struct {
		policy  backends.Policy
		check   func(context.Context, *backends.Request) (backends.Decision, error)
		store   func() *fakeCluster
		isDown  bool
		request func() session.OpenRequest
		want    []string
	}{
		"denied": {
			check: func(context.Context, *backends.Request) (backends.Decision, error) { return deniedDecision(), nil },
			want:  []string{"opening portal 0s denied/backend"},
		},
		"no answer in time": {
			check: hang,
			want:  []string{"opening portal 1s allowed/fail-open: timeout"},
		},
		"a failure that admits no viewer": {
			policy: backends.PolicyKeep,
			check: func(context.Context, *backends.Request) (backends.Decision, error) {
				return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "portal", Status: 500}
			},
			want: []string{"opening portal 0s pending/none: status 500"},
		},
		"an open breaker": {
			check: breakerOpen, isDown: true,
			want: []string{"opening portal 0s allowed/fail-open: breaker-open"},
		},
		"another node's decision": {
			store: func() *fakeCluster {
				c := known(allowedDecision())
				c.beforeLease = slow
				return c
			},
			want: []string{"lookup  3ms allowed/backend"},
		},
		"another node's denial": {
			store: func() *fakeCluster { return known(deniedDecision()) },
			want:  []string{"lookup  0s denied/backend"},
		},
		"a ticket during an outage of the store": {
			store: func() *fakeCluster {
				return &fakeCluster{isShared: true, beforeLease: func(context.Context) error { return backends.ErrStoreUnavailable }}
			},
			request: func() session.OpenRequest { return ticketRequest(1, time.Now().Add(-time.Minute)) },
			want:    []string{"opening  0s allowed/ticket: redis is unavailable"},
		},
		"a ban": {
			store: func() *fakeCluster {
				return &fakeCluster{banned: func(*backends.Request, *backends.Decision) (session.Ban, bool) {
					return session.Ban{ID: "b1"}, true
				}}
			},
			want: []string{"ban  0s denied/ban"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(max(test.policy, backends.PolicyAllow), test.check)
				if test.isDown {
					b.health.Store(uint32(backends.BreakerOpen))
				}
				store := &fakeCluster{}
				if test.store != nil {
					store = test.store()
				}
				n := newNode(b, store, nil)
				defer n.closeAndDrain()
				request := openRequest(1)
				if test.request != nil {
					request = test.request()
				}
				n.watch(t, request)
				wantTimeline(t, n, test.want...)
			})
		})
	}
}
