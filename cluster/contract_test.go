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
	"usher/cluster/redistest"
)

const (
	// ReviveMaxAge is how old a ticket of these tests may be.
	reviveFor = 20 * time.Minute
	// LeaseFor is longer than any test runs, and holdFor is how long its decisions hold.
	leaseFor, holdFor = time.Hour, time.Hour
)

func idOf(i int) (id backends.SessionID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	id[0] = byte(i) // they lie in all buckets
	return id
}

// opened is when the sessions of these tests were opened, so many minutes ago: a ticket says it to the second.
func opened(minutes int) time.Time {
	return time.Now().Add(-time.Duration(minutes) * time.Minute).Truncate(time.Second).UTC()
}

// yes is what a backend allowed, and a record of it that holds.
func yes(i int, o time.Time) session.Record {
	return session.Record{
		ID: idOf(i), Opened: o, KeyID: "a", CheckNumber: 2, Expires: time.Now().Add(holdFor),
		Decision: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, User: "Ann", UserID: "17"},
		Request:  &backends.Request{Session: idOf(i), Channel: "a001", Backend: "portal", Query: "token=s3cret"},
		Trace:    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

func no(i int, o time.Time) session.Record {
	r := yes(i, o)
	r.Decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "unpaid"}
	return r
}

func stopgap(i int, o time.Time) session.Record {
	r := yes(i, o)
	r.Decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
	return r
}

// under is the record as it is published under a lease.
func under(fence uint64, r session.Record) session.Record {
	r.Revision = fence
	return r
}

// two are two nodes that share sessions. Those of a Memory are one.
type two struct {
	t    testing.TB
	a, b Store
}

func (n two) acquire(s Store, c session.LeaseRequest) session.LeaseResult {
	n.t.Helper()
	got, err := s.AcquireLease(n.t.Context(), c)
	if err != nil {
		n.t.Fatalf("claim: %v", err)
	}
	return got
}

// look reads a session without wanting to ask.
func (n two) read(s Store, i int) session.LeaseResult {
	n.t.Helper()
	return n.acquire(s, session.LeaseRequest{ID: idOf(i)})
}

// lease claims a session of which nothing holds, and returns the number.
func (n two) lease(s Store, i int, known uint64) uint64 {
	n.t.Helper()
	got := n.acquire(s, session.LeaseRequest{ID: idOf(i), KnownRevision: known, Lease: leaseFor, Wait: 0})
	if got.Revision == 0 {
		n.t.Fatalf("no lease: %+v", got)
	}
	return got.Revision
}

func (n two) save(s Store, r session.Record, bury bool, want session.UpdateOutcome) {
	n.t.Helper()
	got, err := s.SaveDecision(n.t.Context(), session.DecisionUpdate{Record: r, RevokeTicket: bury})
	if err != nil || got != want {
		n.t.Fatalf("publish: %v, %v; want %v", got, err, want)
	}
}

func (n two) want(s Store, i int, verdict backends.Verdict, source backends.Source) session.Record {
	n.t.Helper()
	got := n.read(s, i)
	d := got.Record.Decision
	if !got.Found || d.Verdict != verdict || d.Source != source {
		n.t.Errorf("the store says %v by %v (found: %t), want %v by %v", d.Verdict, d.Source, got.Found, verdict, source)
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
	GracePeriod: 10 * time.Second, ZapTimeout: 10 * time.Second, EvictionTTL: time.Minute, IdleTimeout: time.Minute,
}

func newMemory(t testing.TB, records int) *Memory {
	t.Helper()
	m, err := NewMemory(MemoryConfig{MaxSessions: records}, reviveFor, testRules)
	must(t, err)
	return m
}

// testConfig is a config of nodes that share a server.
func testConfig(s *redistest.Server) Config {
	c := DefaultConfig()
	c.Redis.Addresses = []string{s.Socket}
	c.EncryptionKeys = []backends.Key{{ID: "a", Secret: "a secret of the cluster"}}
	c.RedisTimeout = 5 * time.Second // the machine may be busy, and that is no sign that Redis is away
	return c
}

func newStore(t testing.TB, c Config, log *slog.Logger) *Redis {
	t.Helper()
	r, err := NewRedis(c, RedisDeps{ReviveFor: reviveFor, Limits: testRules, Local: newMemory(t, 1000), Logger: log})
	must(t, err)
	t.Cleanup(r.Close)
	return r
}

// onEachStore runs a part of the contract on a memory and on a Redis.
func onEachStore(t *testing.T, rules map[string]func(n two)) {
	t.Helper()
	server := redistest.Start(t)
	for name, rule := range rules {
		t.Run("memory: "+name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t, 1000)
			t.Cleanup(m.Close)
			rule(two{t, m, m})
		})
		t.Run("Redis: "+name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(server)
			c.Redis.KeyPrefix = prefixOf(name)
			rule(two{t, newStore(t, c, slog.New(slog.DiscardHandler)), newStore(t, c, slog.New(slog.DiscardHandler))})
		})
	}
}

// prefixOf gives each rule a prefix of its own.
func prefixOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "t" + hex.EncodeToString(sum[:8])
}

func TestStoreLetsOneNodeAsk(t *testing.T) {
	t.Parallel()
	onEachStore(t, map[string]func(n two){
		"a session that nobody knows is granted to one": func(n two) {
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
				n.t.Error("nobody may ask")
			}
		},
		"who waits has the other's answer": func(n two) {
			fence := n.lease(n.a, 1, 0)
			answer := make(chan session.LeaseResult, 1)
			go func() {
				got, _ := n.b.AcquireLease(n.t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: redistest.Timeout})
				answer <- got
			}()
			redistest.Eventually(n.t, "the other waits", func() bool { return n.read(n.a, 1).HeldElsewhere })
			n.save(n.a, under(fence, yes(1, opened(1))), false, session.OutcomeStored)
			got := <-answer
			if got.Revision != 0 || got.Record.Decision.User != "Ann" || got.Record.Revision != fence {
				n.t.Errorf("got %+v, want the answer under %d", got, fence)
			}
		},
		"who waited long enough asks himself": func(n two) {
			fence := n.lease(n.a, 1, 0)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: 30 * time.Millisecond})
			if got.Revision <= fence {
				n.t.Fatalf("got the number %d after %d", got.Revision, fence)
			}
			n.save(n.a, under(fence, no(1, opened(1))), false, session.OutcomeStale)
			if n.read(n.a, 1).Found {
				n.t.Error("who was too late is believed")
			}
			n.save(n.b, under(got.Revision, yes(1, opened(1))), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
		},
		"who leaves while he waits learns nothing": func(n two) {
			n.lease(n.a, 1, 0)
			ctx, leave := context.WithTimeout(n.t.Context(), 20*time.Millisecond)
			defer leave()
			if got, err := n.b.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: redistest.Timeout}); err == nil {
				n.t.Errorf("got %+v", got)
			}
		},
		"a lease ends by itself": func(n two) {
			first := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), Lease: 30 * time.Millisecond})
			redistest.Eventually(n.t, "another lease", func() bool {
				got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: time.Millisecond, Wait: time.Microsecond})
				return got.Revision > first.Revision
			})
		},
		"who only looks is granted nothing, and takes nothing": func(n two) {
			if got := n.read(n.a, 1); got.Found || got.Revision != 0 || got.HeldElsewhere {
				n.t.Errorf("of an unknown session: %+v", got)
			}
			fence := n.lease(n.a, 1, 0)
			if got := n.read(n.b, 1); !got.HeldElsewhere || got.Revision != 0 {
				n.t.Errorf("of one that is asked about: %+v", got)
			}
			n.save(n.a, under(fence, yes(1, opened(1))), false, session.OutcomeStored)
		},
		"an answer that holds is all that anybody needs": func(n two) {
			fence := n.lease(n.a, 1, 0)
			r := yes(1, opened(1))
			n.save(n.a, under(fence, r), false, session.OutcomeStored)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
			left := time.Until(got.Record.Expires)
			if got.Revision != 0 || got.HeldElsewhere || left > holdFor || left < holdFor-redistest.Timeout {
				n.t.Errorf("got %+v", got)
			}
			got.Record.Expires, r.Expires = time.Time{}, time.Time{}
			if diff := cmp.Diff(under(fence, r), got.Record, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				n.t.Errorf("the record (-published +read):\n%s", diff)
			}
		},
		"a re-check needs a newer answer": func(n two) {
			first := n.lease(n.a, 1, 0)
			n.save(n.a, under(first, yes(1, opened(1))), false, session.OutcomeStored)
			second := n.lease(n.a, 1, first)
			if got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), KnownRevision: first}); !got.HeldElsewhere {
				n.t.Errorf("while it is asked about: %+v", got)
			}
			n.save(n.a, under(second, yes(1, opened(1))), false, session.OutcomeStored)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), KnownRevision: first, Lease: leaseFor})
			if got.Revision != 0 || got.Record.Revision != second {
				n.t.Errorf("got %+v, want the answer under %d", got, second)
			}
		},
		"a lease is given back without an answer": func(n two) {
			fence := n.lease(n.a, 1, 0)
			n.save(n.a, session.Record{ID: idOf(1), Revision: fence}, false, session.OutcomeStored)
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: redistest.Timeout})
			if got.Revision <= fence || got.Found {
				n.t.Errorf("got %+v", got)
			}
		},
	})
}

func TestStoreKeepsWhatCounts(t *testing.T) {
	t.Parallel()
	onEachStore(t, map[string]func(n two){
		"no stopgap replaces an answer that holds, but its lease comes back": func(n two) {
			first := n.lease(n.a, 1, 0)
			n.save(n.a, under(first, yes(1, opened(1))), false, session.OutcomeStored)
			second := n.lease(n.b, 1, first)
			n.save(n.b, under(second, stopgap(1, opened(1))), false, session.OutcomeKept)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
			if got := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), KnownRevision: first, Lease: leaseFor, Wait: redistest.Timeout}); got.Revision <= second {
				n.t.Errorf("the lease is gone: %+v", got)
			}
		},
		"a stopgap replaces an answer that has run out": func(n two) {
			fence := n.lease(n.a, 1, 0)
			r := yes(1, opened(1))
			r.Expires = time.Now().Add(-time.Second)
			n.save(n.a, under(fence, r), false, session.OutcomeStored)
			n.save(n.b, stopgap(1, opened(1)), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromFailOpen)
		},
		"a stopgap is no news to who stands on an answer": func(n two) {
			fence := n.lease(n.a, 1, 0)
			n.save(n.a, under(fence, stopgap(1, opened(1))), false, session.OutcomeStored)
			if got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), KnownRevision: 1, Lease: leaseFor}); got.Revision == 0 {
				n.t.Errorf("got %+v, want a lease", got)
			}
		},
		"what was decided without the store does not replace what holds": func(n two) {
			fence := n.lease(n.a, 1, 0)
			n.save(n.a, under(fence, no(1, opened(1))), false, session.OutcomeStored)
			n.save(n.b, yes(1, opened(1)), false, session.OutcomeKept)
			n.want(n.a, 1, backends.Denied, backends.FromBackend)
		},
		"what was decided without the store is better than nothing": func(n two) {
			n.save(n.b, yes(1, opened(1)), false, session.OutcomeStored)
			n.want(n.a, 1, backends.Allowed, backends.FromBackend)
		},
		"a burial refuses the ticket, and no other": func(n two) {
			o := opened(5)
			fence := n.lease(n.a, 1, 0)
			n.save(n.a, under(fence, no(1, o)), true, session.OutcomeStored)
			r := n.read(n.b, 1).Record
			if !r.RevokedBefore.Equal(o) || r.Decision.Reason != "unpaid" {
				n.t.Errorf("buried %v with %+v, want %v", r.RevokedBefore, r.Decision, o)
			}
			// A buried denial is no answer to who comes with credentials, and the next session is another one.
			next := n.lease(n.b, 1, 0)
			n.save(n.b, under(next, yes(1, o.Add(time.Second))), false, session.OutcomeStored)
			r = n.want(n.a, 1, backends.Allowed, backends.FromBackend)
			if !r.Opened.After(r.RevokedBefore) {
				n.t.Errorf("opened %v, buried %v", r.Opened, r.RevokedBefore)
			}
			n.save(n.a, under(0, no(1, o.Add(-time.Minute))), true, session.OutcomeStored)
			if got := n.read(n.b, 1).Record.RevokedBefore; !got.Equal(o) {
				n.t.Errorf("buried %v after a burial of an older ticket, want %v", got, o)
			}
		},
		"a yes that is older than the burial is no answer": func(n two) {
			o := opened(5)
			n.save(n.a, yes(1, o), false, session.OutcomeStored)
			must(n.t, n.b.RevokeSession(n.t.Context(), idOf(1), o, 0))
			if got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor}); got.Revision == 0 || !got.Record.RevokedBefore.Equal(o) {
				n.t.Errorf("got %+v, want a lease and the burial", got)
			}
		},
		"a kick refuses for its time, whatever is shown": func(n two) {
			n.save(n.a, yes(1, opened(5)), false, session.OutcomeStored)
			must(n.t, n.a.RevokeSession(n.t.Context(), idOf(1), time.Time{}, 5*time.Minute))
			got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
			left := time.Until(got.Record.KickedUntil)
			if got.Revision != 0 || left > 5*time.Minute || left < 5*time.Minute-redistest.Timeout || got.Record.RevokedBefore.Before(opened(4)) {
				n.t.Errorf("got %+v", got)
			}
		},
		"a kick that is over leaves only the ticket refused": func(n two) {
			must(n.t, n.a.RevokeSession(n.t.Context(), idOf(1), time.Time{}, 20*time.Millisecond))
			redistest.Eventually(n.t, "a lease", func() bool {
				got := n.acquire(n.b, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
				return got.Revision != 0 && got.Found && !got.Record.RevokedBefore.IsZero()
			})
		},
		"a kick of a session that is being asked about stands": func(n two) {
			fence := n.lease(n.a, 1, 0)
			must(n.t, n.b.RevokeSession(n.t.Context(), idOf(1), time.Time{}, 5*time.Minute))
			n.save(n.a, under(fence, yes(1, opened(0))), false, session.OutcomeStored)
			if got := n.read(n.b, 1); time.Now().After(got.Record.KickedUntil) || got.Record.Opened.After(got.Record.RevokedBefore) {
				n.t.Errorf("got %+v", got)
			}
		},
		"an eviction is a mark beside the yes": func(n two) {
			o := opened(5)
			n.save(n.a, yes(1, o), false, session.OutcomeStored)
			must(n.t, n.a.SetEvicted(n.t.Context(), idOf(1), true))
			if r := n.want(n.b, 1, backends.Allowed, backends.FromBackend); !r.IsEvicted {
				n.t.Error("the mark is missing")
			}
			r := yes(1, o)
			r.CheckNumber = 3
			fence := n.lease(n.b, 1, 1)
			n.save(n.b, under(fence, r), false, session.OutcomeStored)
			if !n.read(n.a, 1).Record.IsEvicted {
				n.t.Error("a re-check took the mark away")
			}
			must(n.t, n.b.SetEvicted(n.t.Context(), idOf(1), false))
			if n.read(n.a, 1).Record.IsEvicted {
				n.t.Error("the mark is still there")
			}
		},
		"an eviction is not carried over to the next session": func(n two) {
			o := opened(5)
			n.save(n.a, yes(1, o), false, session.OutcomeStored)
			must(n.t, n.a.SetEvicted(n.t.Context(), idOf(1), true))
			n.save(n.a, under(n.lease(n.a, 1, 1), yes(1, o.Add(time.Second))), false, session.OutcomeStored)
			if n.read(n.b, 1).Record.IsEvicted {
				n.t.Error("it is")
			}
		},
		"an eviction while the yes is on its way is not lost": func(n two) {
			fence := n.lease(n.a, 1, 0)
			must(n.t, n.b.SetEvicted(n.t.Context(), idOf(1), true))
			n.save(n.a, under(fence, yes(1, opened(0))), false, session.OutcomeStored)
			if !n.read(n.b, 1).Record.IsEvicted {
				n.t.Error("it is")
			}
		},
	})
}

func TestStoreClosesASessionOnce(t *testing.T) {
	t.Parallel()
	const idle = time.Minute
	seen := func(n two, s Store, i int, ago time.Duration) (unknown int) {
		n.t.Helper()
		got, err := s.RecordHeartbeats(n.t.Context(), []session.Heartbeat{{ID: idOf(i), LastSeen: time.Now().Add(-ago)}})
		must(n.t, err)
		return len(got)
	}
	sweep := func(n two, s Store, most int) []session.ClosingRecord {
		n.t.Helper()
		over, err := s.ExpireIdle(n.t.Context(), idle, most)
		must(n.t, err)
		return over
	}
	flush := func(n two, s Store, tally session.Counters) {
		n.t.Helper()
		must(n.t, s.AddCounters(n.t.Context(), idOf(1), tally))
	}
	onEachStore(t, map[string]func(n two){
		"what is new is said to be": func(n two) {
			if got := seen(n, n.a, 1, 0); got != 1 {
				n.t.Errorf("%d are unknown at first, want 1", got)
			}
			if got := seen(n, n.b, 1, 0); got != 0 {
				n.t.Errorf("%d are unknown then, want none", got)
			}
		},
		"a session that nobody saw for long is closed with all that was counted": func(n two) {
			o := opened(5)
			n.save(n.a, yes(1, o), false, session.OutcomeStored)
			flush(n, n.a, session.Counters{Requests: 3, Bytes: 30, Unverified: time.Second, History: "allowed/backend"})
			flush(n, n.b, session.Counters{Requests: 4, Bytes: 40, History: "allowed/backend,allowed/cached"})
			seen(n, n.a, 1, 2*idle)
			over := append(sweep(n, n.a, 10), sweep(n, n.b, 10)...)
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
		"a session that somebody saw is not closed": func(n two) {
			n.save(n.a, yes(1, opened(5)), false, session.OutcomeStored)
			seen(n, n.a, 1, 2*idle)
			seen(n, n.b, 1, 0)
			seen(n, n.a, 1, 2*idle) // what comes late says nothing new
			if over := sweep(n, n.a, 10); len(over) != 0 {
				n.t.Errorf("closed %+v", over)
			}
		},
		"who comes back begins anew": func(n two) {
			n.save(n.a, yes(1, opened(5)), false, session.OutcomeStored)
			flush(n, n.a, session.Counters{Requests: 3})
			seen(n, n.a, 1, 2*idle)
			sweep(n, n.a, 10)
			n.read(n.b, 1)
			if got := seen(n, n.b, 1, 2*idle); got != 1 {
				n.t.Errorf("%d are unknown after the end, want 1", got)
			}
			flush(n, n.b, session.Counters{Requests: 5})
			over := sweep(n, n.a, 10)
			if len(over) != 1 || over[0].Counters.Requests != 5 {
				n.t.Errorf("closed %+v, want one with 5 requests", over)
			}
		},
		"about as many as asked for are closed at once, and all in the end": func(n two) {
			for i := range 300 {
				seen(n, n.a, i, 2*idle)
			}
			closed := map[backends.SessionID]int{}
			for range 20 {
				over := sweep(n, n.b, 20)
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
		"nodes that sweep at once close each once": func(n two) {
			for i := range 200 {
				n.save(n.a, yes(i, opened(5)), false, session.OutcomeStored)
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
