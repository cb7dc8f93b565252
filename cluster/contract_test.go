package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/events"
	"usher/cluster/redistest"
)

const (
	// reviveFor is how old a ticket of these tests may be.
	reviveFor = 20 * time.Minute
	// leaseFor is longer than any test runs, and holdFor is how long its decisions hold.
	leaseFor, holdFor = time.Hour, time.Hour
)

func idOf(i int) (id backends.SessionID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	id[0] = byte(i) // they lie in different buckets
	return id
}

// openedAgo returns the opening time of a session, that many minutes ago. A ticket has it to the second.
func openedAgo(minutes int) time.Time {
	return time.Now().Add(-time.Duration(minutes) * time.Minute).Truncate(time.Second).UTC()
}

// allowedRecord returns a record that a backend allowed and that holds.
func allowedRecord(i int, o time.Time) session.Record {
	return session.Record{
		ID: idOf(i), Opened: o, KeyID: "a", CheckNumber: 2, Expires: time.Now().Add(holdFor),
		Decision: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, User: "Ann", UserID: "17"},
		Request:  &backends.Request{Session: idOf(i), Channel: "a001", Backend: "portal", Query: "token=s3cret"},
		Trace:    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

func deniedRecord(i int, o time.Time) session.Record {
	r := allowedRecord(i, o)
	r.Decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "unpaid"}
	return r
}

func fallbackRecord(i int, o time.Time) session.Record {
	r := allowedRecord(i, o)
	r.Decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
	return r
}

// withRevision returns the record as it is saved under a lease.
func withRevision(revision uint64, r session.Record) session.Record {
	r.Revision = revision
	return r
}

// storePair is the stores of two nodes that share sessions. A Memory is both of its own.
type storePair struct {
	t    testing.TB
	a, b Store
}

func (n storePair) acquire(s Store, c session.LeaseRequest) session.LeaseResult {
	n.t.Helper()
	got, err := s.AcquireLease(n.t.Context(), c)
	if err != nil {
		n.t.Fatalf("acquire a lease: %v", err)
	}
	return got
}

// read reads a session without a lease.
func (n storePair) read(s Store, i int) session.LeaseResult {
	n.t.Helper()
	return n.acquire(s, session.LeaseRequest{ID: idOf(i)})
}

// lease acquires a lease where no decision holds, and returns its revision.
func (n storePair) lease(s Store, i int, known uint64) uint64 {
	n.t.Helper()
	got := n.acquire(s, session.LeaseRequest{ID: idOf(i), KnownRevision: known, Lease: leaseFor, Wait: 0})
	if got.Revision == 0 {
		n.t.Fatalf("no lease: %+v", got)
	}
	return got.Revision
}

func (n storePair) save(s Store, r session.Record, revokeTicket bool, want session.UpdateOutcome) {
	n.t.Helper()
	got, err := s.SaveDecision(n.t.Context(), session.DecisionUpdate{Record: r, RevokeTicket: revokeTicket})
	if err != nil || got != want {
		n.t.Fatalf("save: %v, %v; want %v", got, err, want)
	}
}

func (n storePair) want(s Store, i int, verdict backends.Verdict, source backends.Source) session.Record {
	n.t.Helper()
	got := n.read(s, i)
	d := got.Record.Decision
	if !got.Found || d.Verdict != verdict || d.Source != source {
		n.t.Errorf("the store has %v by %v (found: %t), want %v by %v", d.Verdict, d.Source, got.Found, verdict, source)
	}
	return got.Record
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var testRules = session.LimitRules{
	GracePeriod: 10 * time.Second, EvictionTTL: time.Minute, IdleTimeout: time.Minute, HeartbeatInterval: 20 * time.Second,
}

func newMemory(t testing.TB, records int) *Memory {
	t.Helper()
	m, err := NewMemory(MemoryConfig{MaxSessions: records}, reviveFor, testRules)
	must(t, err)
	return m
}

// testConfig returns the configuration of nodes that share a server.
func testConfig(s *redistest.Server) Config {
	c := DefaultConfig()
	c.Redis.Addresses = []string{s.Socket}
	c.EncryptionKeys = []setting.Key{{ID: "a", Secret: "a secret of the cluster"}}
	c.RedisTimeout = 5 * time.Second // the machine may be busy, which is no outage
	return c
}

func newStore(t testing.TB, c Config, log *slog.Logger) *Redis {
	t.Helper()
	r, err := NewRedis(c, RedisDeps{NodeID: events.NewID(), ReviveFor: reviveFor, Local: newMemory(t, 1000), Limits: testRules, Logger: log})
	must(t, err)
	t.Cleanup(r.Close)
	return r
}

// onEachStore runs a part of the contract on a Memory and on a Redis.
func onEachStore(t *testing.T, rules map[string]func(n storePair)) {
	t.Helper()
	server := redistest.Start(t)
	for name, rule := range rules {
		t.Run("memory: "+name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t, 1000)
			t.Cleanup(m.Close)
			rule(storePair{t, m, m})
		})
		t.Run("Redis: "+name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(server)
			c.Redis.KeyPrefix = prefixOf(name)
			rule(storePair{t, newStore(t, c, slog.New(slog.DiscardHandler)), newStore(t, c, slog.New(slog.DiscardHandler))})
		})
	}
}

// prefixOf gives each rule a prefix of its own.
func prefixOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "t" + hex.EncodeToString(sum[:8])
}

func TestStore_AcquireLease(t *testing.T) {
	t.Parallel()
	onEachStore(t, map[string]func(n storePair){
		"an unknown session: a lease is granted": func(n storePair) {
			var mu sync.Mutex
			granted := 0
			var all sync.WaitGroup
			for i := range 20 {
				s := n.a
				if i%2 == 1 {
					s = n.b
				}
				all.Go(func() {
					got, err := s.AcquireLease(n.t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: time.Millisecond})
					if err != nil {
						n.t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if got.Revision != 0 {
						granted++
					}
				})
			}
			all.Wait()
			if granted == 0 {
				n.t.Error("no lease was granted")
			}
		},
		"a waiting caller gets the holder's decision": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			answer := make(chan session.LeaseResult, 1)
			go func() {
				got, _ := n.b.AcquireLease(n.t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: redistest.Timeout})
				answer <- got
			}()
			redistest.Eventually(n.t, "the other waits", func() bool { return n.read(n.a, 1).HeldElsewhere })
			n.save(n.a, withRevision(revision, allowedRecord(1, openedAgo(1))), false, session.OutcomeStored)
			got := <-answer
			if got.Revision != 0 || got.Record.Decision.User != "Ann" || got.Record.Revision != revision {
				n.t.Errorf("got %+v, want the decision with revision %d", got, revision)
			}
		},
		"a caller that waited long enough takes the lease over": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: 30 * time.Millisecond})
			if got.Revision <= revision {
				n.t.Fatalf("got the revision %d after %d", got.Revision, revision)
			}
			n.save(n.a, withRevision(revision, deniedRecord(1, openedAgo(1))), false, session.OutcomeStale)
			if n.read(n.a, 1).Found {
				n.t.Error("a late decision was stored")
			}
			n.save(n.b, withRevision(got.Revision, allowedRecord(1, openedAgo(1))), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
		},
		"a waiting caller whose context ends gets an error": func(n storePair) {
			n.lease(n.a, 1, 0)
			ctx, leave := context.WithTimeout(n.t.Context(), 20*time.Millisecond)
			defer leave()
			if got, err := n.b.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: redistest.Timeout}); err == nil {
				n.t.Errorf("got %+v", got)
			}
		},
		"a lease ends by itself": func(n storePair) {
			first := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), Lease: 30 * time.Millisecond})
			redistest.Eventually(n.t, "another lease", func() bool {
				got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: time.Millisecond, Wait: time.Microsecond})
				return got.Revision > first.Revision
			})
		},
		"a caller that only reads gets no lease": func(n storePair) {
			if got := n.read(n.a, 1); got.Found || got.Revision != 0 || got.HeldElsewhere {
				n.t.Errorf("an unknown session: %+v", got)
			}
			revision := n.lease(n.a, 1, 0)
			if got := n.read(n.b, 1); !got.HeldElsewhere || got.Revision != 0 {
				n.t.Errorf("a leased session: %+v", got)
			}
			n.save(n.a, withRevision(revision, allowedRecord(1, openedAgo(1))), false, session.OutcomeStored)
		},
		"a decision that holds needs no lease": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			r := allowedRecord(1, openedAgo(1))
			n.save(n.a, withRevision(revision, r), false, session.OutcomeStored)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
			left := time.Until(got.Record.Expires)
			if got.Revision != 0 || got.HeldElsewhere || left > holdFor || left < holdFor-redistest.Timeout {
				n.t.Errorf("got %+v", got)
			}
			got.Record.Expires, r.Expires = time.Time{}, time.Time{}
			if diff := cmp.Diff(withRevision(revision, r), got.Record, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				n.t.Errorf("the record (-saved +read):\n%s", diff)
			}
		},
		"a re-check needs a newer decision": func(n storePair) {
			first := n.lease(n.a, 1, 0)
			n.save(n.a, withRevision(first, allowedRecord(1, openedAgo(1))), false, session.OutcomeStored)
			second := n.lease(n.a, 1, first)
			if got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), KnownRevision: first}); !got.HeldElsewhere {
				n.t.Errorf("while the lease is held: %+v", got)
			}
			n.save(n.a, withRevision(second, allowedRecord(1, openedAgo(1))), false, session.OutcomeStored)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), KnownRevision: first, Lease: leaseFor})
			if got.Revision != 0 || got.Record.Revision != second {
				n.t.Errorf("got %+v, want the decision with revision %d", got, second)
			}
		},
		"a lease is released without a decision": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			n.save(n.a, session.Record{ID: idOf(1), Revision: revision}, false, session.OutcomeStored)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: redistest.Timeout})
			if got.Revision <= revision || got.Found {
				n.t.Errorf("got %+v", got)
			}
		},
	})
}

func TestStore_SaveDecision(t *testing.T) {
	t.Parallel()
	onEachStore(t, map[string]func(n storePair){
		"a fallback does not replace a backend's decision that holds, but releases the lease": func(n storePair) {
			first := n.lease(n.a, 1, 0)
			n.save(n.a, withRevision(first, allowedRecord(1, openedAgo(1))), false, session.OutcomeStored)
			second := n.lease(n.b, 1, first)
			n.save(n.b, withRevision(second, fallbackRecord(1, openedAgo(1))), false, session.OutcomeKept)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
			if got := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), KnownRevision: first, Lease: leaseFor, Wait: redistest.Timeout}); got.Revision <= second {
				n.t.Errorf("the lease was not released: %+v", got)
			}
		},
		"a fallback replaces an expired decision": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			r := allowedRecord(1, openedAgo(1))
			r.Expires = time.Now().Add(-time.Second)
			n.save(n.a, withRevision(revision, r), false, session.OutcomeStored)
			n.save(n.b, fallbackRecord(1, openedAgo(1)), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromFailOpen)
		},
		"a fallback does not answer a caller that has a decision": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			n.save(n.a, withRevision(revision, fallbackRecord(1, openedAgo(1))), false, session.OutcomeStored)
			if got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), KnownRevision: 1, Lease: leaseFor}); got.Revision == 0 {
				n.t.Errorf("got %+v, want a lease", got)
			}
		},
		"a decision without a lease does not replace one that holds": func(n storePair) {
			revision, o := n.lease(n.a, 1, 0), openedAgo(2)
			n.save(n.a, withRevision(revision, deniedRecord(1, o)), false, session.OutcomeStored)
			n.save(n.b, allowedRecord(1, o), false, session.OutcomeKept)
			n.save(n.b, allowedRecord(1, o.Add(time.Minute)), false, session.OutcomeStale) // it must look
			n.want(n.a, 1, backends.Denied, backends.FromBackend)
		},
		"of openings apart from each other the latest counts": func(n storePair) {
			first, last := openedAgo(3), openedAgo(2)
			n.save(n.a, allowedRecord(1, first), false, session.OutcomeStored)
			n.save(n.b, allowedRecord(1, last), false, session.OutcomeStored)
			n.save(n.a, allowedRecord(1, first), false, session.OutcomeStale)
			n.save(n.a, fallbackRecord(1, first), false, session.OutcomeStale)
			revision := n.lease(n.a, 1, 1)
			n.save(n.a, withRevision(revision, allowedRecord(1, first)), false, session.OutcomeStale)
			if got := n.want(n.a, 1, backends.Allowed, backends.FromBackend); !got.Opened.Equal(last) {
				n.t.Errorf("opened %v, want %v", got.Opened, last)
			}
			if next := n.lease(n.b, 1, revision); next <= revision {
				n.t.Errorf("the lease was not released: %d after %d", next, revision)
			}
		},
		"a denied opening keeps no older ticket out": func(n storePair) {
			ticket, opened := openedAgo(3), openedAgo(2)
			denied := n.lease(n.a, 1, 0)
			n.save(n.a, withRevision(denied, deniedRecord(1, opened)), false, session.OutcomeStored)
			n.save(n.b, allowedRecord(1, ticket), false, session.OutcomeStale) // it must look
			n.save(n.b, fallbackRecord(1, ticket), false, session.OutcomeKept)
			n.save(n.b, withRevision(denied, allowedRecord(1, ticket)), false, session.OutcomeStored) // it has looked
			if got := n.want(n.a, 1, backends.Allowed, backends.FromBackend); !got.Opened.Equal(ticket) {
				n.t.Errorf("opened %v, want %v", got.Opened, ticket)
			}
		},
		"a denied opening keeps no older ticket out that was checked under a lease": func(n storePair) {
			denied := n.lease(n.a, 1, 0)
			n.save(n.a, withRevision(denied, deniedRecord(1, openedAgo(2))), false, session.OutcomeStored)
			n.save(n.b, withRevision(n.lease(n.b, 1, denied), allowedRecord(1, openedAgo(3))), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
		},
		"a denied opening without a lease keeps no older ticket out": func(n storePair) {
			n.save(n.a, deniedRecord(1, openedAgo(2)), false, session.OutcomeStored)
			n.save(n.b, allowedRecord(1, openedAgo(3)), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
		},
		"an opening that has expired counts no more": func(n storePair) {
			r := allowedRecord(1, openedAgo(2))
			r.Expires = time.Now().Add(-time.Second)
			n.save(n.a, r, false, session.OutcomeStored)
			n.save(n.b, allowedRecord(1, openedAgo(3)), false, session.OutcomeStored)
		},
		"a decision without a lease is stored if there is none": func(n storePair) {
			n.save(n.b, allowedRecord(1, openedAgo(1)), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
		},
		"revoking a ticket denies that ticket and no other": func(n storePair) {
			o := openedAgo(5)
			revision := n.lease(n.a, 1, 0)
			n.save(n.a, withRevision(revision, deniedRecord(1, o)), true, session.OutcomeStored)
			r := n.read(n.b, 1).Record
			if !r.RevokedBefore.Equal(o) || r.Decision.Reason != "unpaid" {
				n.t.Errorf("revoked before %v with %+v, want %v", r.RevokedBefore, r.Decision, o)
			}
			// A denial with a revoked ticket does not answer a viewer with credentials: the next session is another one.
			next := n.lease(n.b, 1, 0)
			n.save(n.b, withRevision(next, allowedRecord(1, o.Add(time.Second))), false, session.OutcomeStored)
			r = n.want(n.a, 1, backends.Allowed, backends.FromBackend)
			if !r.Opened.After(r.RevokedBefore) {
				n.t.Errorf("opened %v, revoked before %v", r.Opened, r.RevokedBefore)
			}
			n.save(n.a, withRevision(0, deniedRecord(1, o.Add(-time.Minute))), true, session.OutcomeKept)
			if got := n.want(n.b, 1, backends.Allowed, backends.FromBackend).RevokedBefore; !got.Equal(o) {
				n.t.Errorf("revoked before %v after an older ticket was revoked, want %v", got, o)
			}
		},
		"an allowed decision with a revoked ticket does not hold": func(n storePair) {
			o := openedAgo(5)
			n.save(n.a, allowedRecord(1, o), false, session.OutcomeStored)
			must(n.t, n.b.RevokeSession(n.t.Context(), idOf(1), o))
			if got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor}); got.Revision == 0 || !got.Record.RevokedBefore.Equal(o) {
				n.t.Errorf("got %+v, want a lease and the revoked ticket", got)
			}
		},
		"all tickets that exist are revoked": func(n storePair) {
			n.save(n.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			must(n.t, n.a.RevokeSession(n.t.Context(), idOf(1), time.Time{}))
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
			if got.Revision == 0 || got.Record.RevokedBefore.Before(openedAgo(4)) {
				n.t.Errorf("got %+v", got)
			}
		},
		"a tombstone survives the decision of a lease": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			must(n.t, n.b.RevokeSession(n.t.Context(), idOf(1), time.Time{}))
			n.save(n.a, withRevision(revision, allowedRecord(1, openedAgo(0))), false, session.OutcomeStored)
			if got := n.read(n.b, 1); got.Record.Opened.After(got.Record.RevokedBefore) {
				n.t.Errorf("got %+v", got)
			}
		},
		"an eviction is a mark beside the decision": func(n storePair) {
			o := openedAgo(5)
			n.save(n.a, allowedRecord(1, o), false, session.OutcomeStored)
			must(n.t, n.a.SetEvicted(n.t.Context(), idOf(1), true))
			if r := n.want(n.b, 1, backends.Allowed, backends.FromBackend); !r.IsEvicted {
				n.t.Error("the mark is missing")
			}
			r := allowedRecord(1, o)
			r.CheckNumber = 3
			revision := n.lease(n.b, 1, 1)
			n.save(n.b, withRevision(revision, r), false, session.OutcomeStored)
			if !n.read(n.a, 1).Record.IsEvicted {
				n.t.Error("a re-check removed the mark")
			}
			must(n.t, n.b.SetEvicted(n.t.Context(), idOf(1), false))
			if n.read(n.a, 1).Record.IsEvicted {
				n.t.Error("the mark is still there")
			}
		},
		"a new session is not evicted": func(n storePair) {
			o := openedAgo(5)
			n.save(n.a, allowedRecord(1, o), false, session.OutcomeStored)
			must(n.t, n.a.SetEvicted(n.t.Context(), idOf(1), true))
			n.save(n.a, withRevision(n.lease(n.a, 1, 1), allowedRecord(1, o.Add(time.Second))), false, session.OutcomeStored)
			if n.read(n.b, 1).Record.IsEvicted {
				n.t.Error("it is")
			}
		},
		"an eviction survives the decision of a lease": func(n storePair) {
			revision := n.lease(n.a, 1, 0)
			must(n.t, n.b.SetEvicted(n.t.Context(), idOf(1), true))
			n.save(n.a, withRevision(revision, allowedRecord(1, openedAgo(0))), false, session.OutcomeStored)
			if !n.read(n.b, 1).Record.IsEvicted {
				n.t.Error("it is")
			}
		},
	})
}

func TestStore_ExpireIdle(t *testing.T) {
	t.Parallel()
	const idle = time.Minute
	seen := func(n storePair, s Store, i int, ago time.Duration) (unknown int) {
		n.t.Helper()
		got, err := s.RecordHeartbeats(n.t.Context(), []session.Heartbeat{{ID: idOf(i), LastSeen: time.Now().Add(-ago)}})
		must(n.t, err)
		return len(got)
	}
	expire := func(n storePair, s Store, most int) []session.ClosingRecord {
		n.t.Helper()
		over, err := s.ExpireIdle(n.t.Context(), idle, most)
		must(n.t, err)
		must(n.t, s.ConfirmClosed(n.t.Context(), over))
		return over
	}
	flush := func(n storePair, s Store, counters session.Counters) {
		n.t.Helper()
		must(n.t, s.AddCounters(n.t.Context(), idOf(1), counters))
	}
	onEachStore(t, map[string]func(n storePair){
		"unknown sessions are returned": func(n storePair) {
			if got := seen(n, n.a, 1, 0); got != 1 {
				n.t.Errorf("%d are unknown at first, want 1", got)
			}
			if got := seen(n, n.b, 1, 0); got != 0 {
				n.t.Errorf("%d are unknown then, want none", got)
			}
		},
		"an idle session is closed with the counters of all nodes": func(n storePair) {
			o := openedAgo(5)
			n.save(n.a, allowedRecord(1, o), false, session.OutcomeStored)
			flush(n, n.a, session.Counters{Requests: 3, Bytes: 30, Unverified: time.Second, History: "allowed/backend"})
			flush(n, n.b, session.Counters{Requests: 4, Bytes: 40, History: "allowed/backend,allowed/cached"})
			seen(n, n.a, 1, 2*idle)
			over := append(expire(n, n.a, 10), expire(n, n.b, 10)...)
			if len(over) != 1 {
				n.t.Fatalf("%d are closed, want one: %+v", len(over), over)
			}
			c := over[0]
			want := session.Counters{Requests: 7, Bytes: 70, Unverified: time.Second, History: "allowed/backend,allowed/cached"}
			if diff := cmp.Diff(want, c.Counters); diff != "" {
				n.t.Errorf("counted (-want +got):\n%s", diff)
			}
			if ago := time.Since(c.LastSeen); c.Record.Decision.User != "Ann" || c.Record.Request == nil || ago < 2*idle || ago > 2*idle+redistest.Timeout {
				n.t.Errorf("closed %+v", c)
			}
			if c.Since.After(c.LastSeen) {
				n.t.Errorf("since %v, seen %v", c.Since, c.LastSeen)
			}
			n.want(n.b, 1, backends.Allowed, backends.FromBackend) // it is remembered
		},
		"a session that was banned on both nodes tells so once": func(n storePair) {
			const history = "allowed/backend,denied/ban"
			n.save(n.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			for _, s := range []Store{n.a, n.b} {
				seen(n, s, 1, 2*idle)
				flush(n, s, session.Counters{Requests: 1, History: history})
			}
			over := append(expire(n, n.a, 10), expire(n, n.b, 10)...)
			if len(over) != 1 || over[0].Counters.History != history || over[0].Reason().String() != "denied" {
				n.t.Errorf("closed %+v, want one session with the history %s, as denied", over, history)
			}
		},
		"a session that was banned often, and unbanned, ends as allowed": func(n storePair) {
			n.save(n.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			seen(n, n.a, 1, 2*idle)
			for range 40 {
				flush(n, n.a, session.Counters{Requests: 1, History: "allowed/backend,denied/ban"})
				flush(n, n.b, session.Counters{Requests: 1, History: "allowed/backend"})
			}
			over := append(expire(n, n.a, 10), expire(n, n.b, 10)...)
			if len(over) != 1 || over[0].Reason() != session.ClosedIdle || len(over[0].Counters.History) > maxHistorySize {
				n.t.Errorf("closed %+v, want one session, as idle", over)
			}
		},
		"a session that one node saw is not closed": func(n storePair) {
			n.save(n.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			seen(n, n.a, 1, 2*idle)
			seen(n, n.b, 1, 0)
			seen(n, n.a, 1, 2*idle) // a late report changes nothing
			if over := expire(n, n.a, 10); len(over) != 0 {
				n.t.Errorf("closed %+v", over)
			}
		},
		"a viewer who comes back begins a new period": func(n storePair) {
			n.save(n.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			flush(n, n.a, session.Counters{Requests: 3})
			seen(n, n.a, 1, 2*idle)
			expire(n, n.a, 10)
			n.read(n.b, 1)
			if got := seen(n, n.b, 1, 2*idle); got != 1 {
				n.t.Errorf("%d are unknown after the end, want 1", got)
			}
			flush(n, n.b, session.Counters{Requests: 5})
			over := expire(n, n.a, 10)
			if len(over) != 1 || over[0].Counters.Requests != 5 {
				n.t.Errorf("closed %+v, want one with 5 requests", over)
			}
		},
		"a retry with a revoked ticket ends no period": func(n storePair) {
			o := openedAgo(5)
			n.save(n.a, allowedRecord(1, o), false, session.OutcomeStored)
			flush(n, n.a, session.Counters{Requests: 3})
			seen(n, n.a, 1, 2*idle)
			must(n.t, n.a.RevokeSession(n.t.Context(), idOf(1), o))
			n.read(n.b, 1)
			if over := expire(n, n.a, 10); len(over) != 1 || over[0].Counters.Requests != 3 {
				n.t.Errorf("closed %+v, want the revoked session", over)
			}
		},
		"a session that was opened anew after its ticket was revoked begins a period": func(n storePair) {
			o := openedAgo(5)
			n.save(n.a, allowedRecord(1, o), false, session.OutcomeStored)
			seen(n, n.a, 1, 2*idle)
			must(n.t, n.a.RevokeSession(n.t.Context(), idOf(1), o))
			n.read(n.b, 1)
			expire(n, n.a, 10)
			n.save(n.b, allowedRecord(1, openedAgo(4)), false, session.OutcomeStored)
			flush(n, n.b, session.Counters{Requests: 5})
			seen(n, n.b, 1, 2*idle)
			over := expire(n, n.a, 10)
			if len(over) != 1 || over[0].Counters.Requests != 5 || over[0].Since.After(over[0].LastSeen) {
				n.t.Errorf("closed %+v, want one with 5 requests", over)
			}
		},
		"about the limit is closed at once, and all in the end": func(n storePair) {
			for i := range 300 {
				seen(n, n.a, i, 2*idle)
			}
			closed := map[backends.SessionID]int{}
			for range 20 {
				over := expire(n, n.b, 20)
				if len(over) > 20+bucketCount {
					n.t.Errorf("%d at once", len(over))
				}
				for _, c := range over {
					closed[c.Record.ID]++
				}
			}
			for id, times := range closed {
				if times != 1 {
					n.t.Errorf("%v is closed %d times", id, times)
				}
			}
			if len(closed) != 300 {
				n.t.Errorf("%d are closed, want 300", len(closed))
			}
		},
		"a session that expired is read as closed until it is back": func(n storePair) {
			isClosed := func(known uint64) bool {
				n.t.Helper()
				got, err := n.b.AcquireLease(n.t.Context(), session.LeaseRequest{ID: idOf(1), KnownRevision: known})
				must(n.t, err)
				return got.Record.IsClosed
			}
			n.save(n.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			seen(n, n.a, 1, 2*idle)
			before := isClosed(1)
			expire(n, n.a, 10)
			after, again, opening := isClosed(1), isClosed(1), isClosed(0)
			if back := isClosed(1); before || !after || !again || !opening || back {
				n.t.Errorf("closed before %v, after %v and %v, for the viewer who is back %v, and then %v", before, after, again, opening, back)
			}
		},
		"a session whose decision has expired stays closed until it is decided anew": func(n storePair) {
			old := allowedRecord(1, openedAgo(5))
			old.Expires = time.Now().Add(-time.Second)
			n.save(n.a, old, false, session.OutcomeStored)
			seen(n, n.a, 1, 2*idle)
			expire(n, n.a, 10)
			first, second := n.read(n.b, 1), n.read(n.b, 1)
			n.save(n.b, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			third := n.read(n.b, 1)
			if !first.Record.IsClosed || !second.Record.IsClosed || third.Record.IsClosed {
				n.t.Errorf("closed at first %v, then %v, and once decided %v", first.Record.IsClosed, second.Record.IsClosed, third.Record.IsClosed)
			}
		},
		"nodes that expire at once close each session once": func(n storePair) {
			for i := range 200 {
				n.save(n.a, allowedRecord(i, openedAgo(5)), false, session.OutcomeStored)
				seen(n, n.a, i, 2*idle)
			}
			var mu sync.Mutex
			closed := map[backends.SessionID]int{}
			var all sync.WaitGroup
			for _, s := range []Store{n.a, n.b, n.a, n.b} {
				all.Go(func() {
					over, err := s.ExpireIdle(n.t.Context(), idle, 1000)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						n.t.Error(err)
					}
					for _, c := range over {
						closed[c.Record.ID]++
					}
				})
			}
			all.Wait()
			if len(closed) != 200 {
				n.t.Errorf("%d are closed, want 200", len(closed))
			}
			for id, times := range closed {
				if times != 1 {
					n.t.Errorf("%v is closed %d times", id, times)
				}
			}
		},
	})
}
