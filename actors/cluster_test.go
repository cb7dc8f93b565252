package actors

import (
	"context"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

func TestDenialBudget(t *testing.T) {
	t.Parallel()
	var b denialBudget
	for _, at := range []time.Duration{0, time.Second, 90 * time.Second} {
		for range maxStoredDenials {
			if !b.allow(in(at)) {
				t.Fatalf("a denial within the budget of %v is not stored", at)
			}
		}
		if b.allow(in(at + time.Second - 1)) {
			t.Errorf("after %v: a denial beyond the budget is stored", at)
		}
	}
}

// brokenCluster fails with err, or not at all if that is nil.
type brokenCluster struct {
	fakeCluster

	err error
}

func (c *brokenCluster) SaveDecision(context.Context, session.DecisionUpdate) (session.UpdateOutcome, error) {
	return session.OutcomeStored, c.err
}

func (c *brokenCluster) Revoke(context.Context, session.Revocation) error { return c.err }

func (c *brokenCluster) AddCounters(context.Context, backends.SessionID, session.Counters) error {
	return c.err
}

func (c *brokenCluster) RecordHeartbeats(context.Context, []session.Heartbeat) ([]backends.SessionID, error) {
	return nil, c.err
}

func (c *brokenCluster) SetEvicted(context.Context, backends.SessionID, bool) error { return c.err }

func (c *brokenCluster) BanCredentials(context.Context, iter.Seq2[session.Ban, *backends.Request]) error {
	return c.err
}

func TestClusterClient_LogsFailures(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		call     func(t *testing.T, c *clusterClient)
		messages []string
	}{
		"a revocation": {
			func(_ *testing.T, c *clusterClient) {
				c.announce(session.Revocation{Session: idOf(1), Kind: session.RevokedKicked})
			},
			[]string{`level=WARN msg="revocation not announced`},
		},
		"a session that leaves the node": {
			func(_ *testing.T, c *clusterClient) { c.handOver(bareSession(idOf(1)), session.Counters{}) },
			[]string{`level=DEBUG msg="session counters not stored"`, `level=DEBUG msg="last heartbeat not stored"`},
		},
		"an eviction": {
			func(t *testing.T, c *clusterClient) { c.markEvicted(t.Context(), idOf(1)) },
			[]string{`level=DEBUG msg="eviction not stored"`},
		},
		"another stream of a limited user": {
			func(_ *testing.T, c *clusterClient) {
				l := newStreamLimits(core{life: c.life, cluster: c, log: c.log, table: new(sessionTable)}, PerUserConfig{})
				l.evict(session.EvictedStream{Session: idOf(1), State: session.StreamEvicted}, false)
			},
			[]string{`level=WARN msg="eviction not stored, the session may return on another node"`},
		},
		"an evicted session that redis has lost": {
			func(_ *testing.T, c *clusterClient) {
				r := revoker{core: core{life: c.life, cluster: c, log: c.log, table: new(sessionTable)}}
				s, _ := r.table.findOrAdd(idOf(1), newBareSession(idOf(1)))
				s.evicted.Store(new(session.Record))
				r.saveLost()
				c.life.tasks.Wait()
			},
			[]string{`level=DEBUG msg="evicted session not stored again"`, `level=DEBUG msg="eviction not stored"`},
		},
		"credentials of a banned user": {
			func(_ *testing.T, c *clusterClient) {
				r := revoker{core: core{life: c.life, cluster: c, log: c.log}}
				r.banCredentials(map[*backends.Request]session.Ban{openRequest(1).Request: {ID: "b1"}})
			},
			[]string{`level=WARN msg="credentials of banned users not banned" viewers=1`},
		},
	} {
		for _, err := range []error{nil, errBroken} {
			var text lockedBuffer
			log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
			life := newLifecycle()
			test.call(t, &clusterClient{Cluster: &brokenCluster{err: err}, life: life, log: log})
			life.cancel()
			if err == nil && text.String() != "" {
				t.Errorf("%s: logged without a failure:\n%s", name, text.String())
			}
			for _, message := range test.messages {
				if err != nil && !strings.Contains(text.String(), message) {
					t.Errorf("%s: the log lacks %s:\n%s", name, message, text.String())
				}
			}
		}
	}
}

// TestClusterClient_IsBacklogged counts what nobody waits for, and not what viewers cause: a busy store would never be free.
func TestClusterClient_IsBacklogged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		of   func(c *clusterClient) *atomic.Int32
		want bool
	}{
		"openings":      {func(c *clusterClient) *atomic.Int32 { return &c.openings }, false},
		"decisions":     {func(c *clusterClient) *atomic.Int32 { return &c.saves }, false},
		"look-ups":      {func(c *clusterClient) *atomic.Int32 { return &c.reloads }, true},
		"what was lost": {func(c *clusterClient) *atomic.Int32 { return &c.restores }, true},
	} {
		var c clusterClient
		test.of(&c).Store(maxReloads)
		if got := c.isBacklogged(); got != test.want {
			t.Errorf("%s: backlogged: %t, want %t", name, got, test.want)
		}
	}
}
