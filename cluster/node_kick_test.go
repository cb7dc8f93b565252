package cluster

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// kickedSession is a live session of a test.
type kickedSession struct {
	session.Handle
	request  *backends.Request
	decision *backends.Decision
	ticket   session.Ticket
}

func (s kickedSession) ID() backends.SessionID       { return s.request.Session }
func (s kickedSession) Request() *backends.Request   { return s.request }
func (s kickedSession) Decision() *backends.Decision { return s.decision }
func (s kickedSession) Ticket() session.Ticket       { return s.ticket }

// kickedSessions are sessions of a channel. The middleware names every second viewer.
func kickedSessions(count int) []session.Handle {
	var all []session.Handle
	for i := range count {
		s := kickedSession{
			request:  &backends.Request{Session: idOf(i), Backend: "portal", Channel: "goal", Query: fmt.Sprintf("format=hls&token=%d", i)},
			decision: &backends.Decision{Verdict: backends.Allowed},
		}
		if i%2 == 0 {
			s.decision.UserID = fmt.Sprint("user ", i)
		}
		all = append(all, s)
	}
	return all
}

// refuses reports whether a node refuses all viewers: by their session, their user and what they present.
func (p *peer) refuses(sessions []session.Handle) bool {
	for _, s := range sessions {
		r, d := *s.Request(), s.Decision()
		_, bySession := p.Banned(&backends.Request{Session: r.Session}, nil)
		r.Session, r.Query = backends.SessionID{}, r.Query+"&x=1"
		_, byCredentials := p.Banned(&r, nil)
		r.Query = ""
		if _, byUser := p.Banned(&r, d); !bySession || !byCredentials || byUser != (d.UserID != "") {
			return false
		}
	}
	return true
}

// admits reports whether a node refuses none of the viewers.
func (p *peer) admits(sessions []session.Handle) bool {
	for _, s := range sessions {
		if _, isBanned := p.Banned(s.Request(), s.Decision()); isBanned {
			return false
		}
	}
	return true
}

func kickFor(d time.Duration) session.Ban {
	return session.Ban{ID: "kick1", IsKick: true, Reason: "rights", Until: time.Now().Add(d)}
}

// TestNode_KickAll_Survives has all nodes refuse all viewers, whatever becomes of Redis, until the kick is lifted by its id.
func TestNode_KickAll_Survives(t *testing.T) {
	t.Parallel()
	const viewers = 1200 // in three groups
	for name, test := range map[string]struct {
		loss    func(t *testing.T, s *redistest.Server, kick func())
		pending bool
	}{
		"no loss": {loss: func(_ *testing.T, _ *redistest.Server, kick func()) { kick() }},
		"flushed after the kick": {loss: func(t *testing.T, s *redistest.Server, kick func()) {
			kick()
			must(t, s.Client.FlushAll(t.Context()).Err())
		}},
		"frozen meanwhile": {pending: true, loss: func(_ *testing.T, s *redistest.Server, kick func()) {
			s.Signal(syscall.SIGSTOP)
			kick()
			s.Signal(syscall.SIGCONT)
		}},
		"a lost subscription": {loss: func(t *testing.T, s *redistest.Server, kick func()) {
			must(t, s.Client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
			kick()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, peers := startPeers(t, 2)
			sessions := kickedSessions(viewers)
			test.loss(t, server, func() {
				err := peers[0].KickAll(t.Context(), kickFor(time.Hour), sessions)
				if isPending := err != nil; isPending != test.pending {
					t.Fatalf("kicked with the error %v", err)
				}
				if !peers[0].refuses(sessions) {
					t.Error("this node does not refuse all at once")
				}
			})
			redistest.Eventually(t, "the other node refuses all", func() bool { return peers[1].refuses(sessions) })
			fresh, _ := startPeer(t, testConfig(server), "fresh", nil)
			redistest.Eventually(t, "a new node refuses all", func() bool { return fresh.refuses(sessions) })
			must(t, server.Client.FlushAll(t.Context()).Err())
			other, _ := startPeer(t, testConfig(server), "other", nil)
			redistest.Eventually(t, "another one does", func() bool { return other.refuses(sessions) })
			if got := len(other.bans.Tombstones("kick1")); got > 0 {
				t.Errorf("%d sessions have tombstones, which the kick lists", got)
			}
			unban(t, fresh.Node, "kick1")
			for _, p := range append(peers, fresh, other) {
				redistest.Eventually(t, p.Name()+" admits all again", func() bool { return p.admits(sessions) && len(p.Bans()) == 0 })
			}
			redistest.Eventually(t, "redis has no ban", func() bool {
				return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == 0
			})
		})
	}
}

// TestNode_KickAll_StreamHoldsIDs bounds the stream of revocations, which is bounded by its entries: a kick adds ids alone.
func TestNode_KickAll_StreamHoldsIDs(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 1)
	must(t, peers[0].KickAll(t.Context(), kickFor(time.Hour), kickedSessions(1200)))
	entries, err := server.Client.XRange(t.Context(), "usher:{all}:revocations", "-", "+").Result()
	if must(t, err); len(entries) != 3 {
		t.Fatalf("%d entries, want one of each group", len(entries))
	}
	for _, e := range entries {
		if size := len(fmt.Sprint(e.Values)); size > 300 {
			t.Errorf("an entry has %d bytes: %.300v", size, e.Values)
		}
	}
}

// TestNode_KickAll_StateDir keeps a kick over the restart of a node without others.
func TestNode_KickAll_StateDir(t *testing.T) {
	t.Parallel()
	dir, sessions := t.TempDir(), kickedSessions(600)
	p, stop := startPeer(t, DefaultConfig(), "alone", withStateDir(dir))
	must(t, p.KickAll(t.Context(), kickFor(time.Hour), sessions))
	stop()
	again, stop := startPeer(t, DefaultConfig(), "alone", withStateDir(dir))
	if !again.refuses(sessions) {
		t.Error("after the restart not all are refused")
	}
	unban(t, again.Node, "kick1")
	stop()
	if last, _ := startPeer(t, DefaultConfig(), "alone", withStateDir(dir)); !last.admits(sessions) {
		t.Error("after the end of the kick some are refused")
	}
}

// TestNode_KickAll_Tickets revokes the tickets that were opened until then, and waits for that before the node ends.
func TestNode_KickAll_Tickets(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p, stop := startPeer(t, testConfig(server), "n1", nil)
	sessions, before := kickedSessions(300), time.Now()
	must(t, p.KickAll(t.Context(), kickFor(time.Second), sessions))
	after := time.Now()
	stop()
	other, _ := startPeer(t, testConfig(server), "n2", nil)
	for _, s := range sessions {
		got, err := other.AcquireLease(t.Context(), session.LeaseRequest{ID: s.ID(), KnownRevision: 1})
		if must(t, err); got.Record.RevokedBefore.Before(before.Truncate(time.Second)) || got.Record.RevokedBefore.After(after) {
			t.Fatalf("the tickets of %s are revoked until %v, want a time from %v to %v", s.ID(), got.Record.RevokedBefore, before, after)
		}
	}
}

// TestNode_KickAll_ClockAhead revokes the ticket of a session that a node has opened whose clock is ahead: it would be good again once the
// kick is over.
func TestNode_KickAll_ClockAhead(t *testing.T) {
	t.Parallel()
	_, peers := startPeers(t, 1)
	opened := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	s := kickedSession{request: &backends.Request{Session: idOf(1), Backend: "portal", Channel: "goal"}, ticket: session.Ticket{Opened: opened}}
	must(t, peers[0].KickAll(t.Context(), kickFor(time.Second), []session.Handle{s}))
	wantRevoked(t, peers[0], opened)
}

// TestNode_Kick_Unavailable_ClockAhead does so for one session, and while Redis is unavailable.
func TestNode_Kick_Unavailable_ClockAhead(t *testing.T) {
	t.Parallel()
	server, opened := redistest.Start(t), time.Now().Add(10*time.Minute).Truncate(time.Second)
	c := testConfig(server)
	c.RedisTimeout = time.Second
	p, _ := startPeer(t, c, "n1", nil)
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, p, p.redis.IsDown)
	_, err := p.Kick(t.Context(), idOf(1), opened, session.Ban{Session: idOf(1), Until: time.Now().Add(time.Second)}, nil)
	if !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("got %v, want ErrStoreUnavailable", err)
	}
	server.Signal(syscall.SIGCONT)
	wantRevoked(t, p, opened)
}

// TestNode_Kick_ClockAhead revokes the ticket of a session of which the store knows no opening: it was not stored yet, or is lost.
func TestNode_Kick_ClockAhead(t *testing.T) {
	t.Parallel()
	opened := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	_, peers := startPeers(t, 1)
	alone, err := Open(Options{Config: DefaultConfig(), ReviveFor: reviveFor, Limits: testRules})
	must(t, err)
	t.Cleanup(alone.Close)
	for name, n := range map[string]*Node{"redis": peers[0].Node, "memory": alone} {
		_, err := n.Kick(t.Context(), idOf(1), opened, session.Ban{Session: idOf(1), Until: time.Now().Add(time.Second)}, nil)
		must(t, err)
		got, err := n.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), KnownRevision: 1})
		if err != nil || got.Record.RevokedBefore.Before(opened) {
			t.Errorf("%s: tickets are revoked until %v, want %v; %v", name, got.Record.RevokedBefore, opened, err)
		}
	}
}

// wantRevoked waits until the store has a tombstone of session 1, and fails unless it covers tickets that were opened then.
func wantRevoked(t *testing.T, p *peer, opened time.Time) {
	t.Helper()
	var record session.Record
	redistest.Eventually(t, "a tombstone is stored", func() bool {
		got, err := p.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), KnownRevision: 1})
		record = got.Record
		return err == nil && !record.RevokedBefore.IsZero()
	})
	if record.RevokedBefore.Before(opened) {
		t.Errorf("tickets are revoked until %v, want %v", record.RevokedBefore, opened)
	}
}

// TestNode_KickAll_TicketAlone refuses the credentials in the record of a viewer who showed this node a ticket alone.
func TestNode_KickAll_TicketAlone(t *testing.T) {
	t.Parallel()
	_, peers := startPeers(t, 2)
	presented := &backends.Request{Session: idOf(1), Backend: "portal", Channel: "goal", Query: "token=x"}
	record := allowedRecord(1, openedAgo(5))
	record.Request = presented
	_, err := peers[1].SaveDecision(t.Context(), session.DecisionUpdate{Record: record})
	must(t, err)
	ticket := &backends.Request{Session: idOf(1), Backend: "portal", Channel: "goal"}
	must(t, peers[0].KickAll(t.Context(), kickFor(time.Hour), []session.Handle{kickedSession{request: ticket}}))
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" refuses the credentials", func() bool {
			_, isBanned := p.Banned(&backends.Request{Session: idOf(2), Backend: "portal", Channel: "goal", Query: "token=x"}, nil)
			return isBanned
		})
	}
}

// TestNode_KickAll_Again kicks nobody twice by one kick, and those that are left.
func TestNode_KickAll_Again(t *testing.T) {
	t.Parallel()
	p, sessions := newSingleNode(t), kickedSessions(20)
	must(t, p.KickAll(t.Context(), kickFor(time.Hour), sessions[:10]))
	must(t, p.KickAll(t.Context(), kickFor(time.Hour), sessions))
	listed := map[backends.SessionID]int{}
	for _, b := range p.Bans() {
		for _, id := range b.Sessions {
			listed[id]++
		}
	}
	for _, s := range sessions {
		if listed[s.ID()] != 1 {
			t.Errorf("%s is listed %d times, want once", s.ID(), listed[s.ID()])
		}
	}
}

// hangingStore is a store that does not answer.
type hangingStore struct{ Store }

func (hangingStore) RevokeSession(ctx context.Context, _ backends.SessionID, _ time.Time) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestNode_Close_RevokesTickets has a node end while it revokes the tickets of kicked sessions: it waits for that, but not for as long as
// its service manager waits for the node.
func TestNode_Close_RevokesTickets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := DefaultConfig()
		c.Memory.MaxSessions = 10
		n, err := Open(Options{Config: c, ReviveFor: reviveFor, Limits: testRules})
		must(t, err)
		n.Store = hangingStore{n.Store}
		must(t, n.KickAll(t.Context(), kickFor(time.Hour), kickedSessions(3)))
		began := time.Now()
		n.Close()
		if took := time.Since(began); took != closeTimeout {
			t.Errorf("took %v, want %v", took, closeTimeout)
		}
	})
}
