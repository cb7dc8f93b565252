package cluster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// TestNode_BanCredentials keeps a banned user's viewer out whom the middleware does not name any more, until the ban ends or is
// removed.
func TestNode_BanCredentials(t *testing.T) {
	t.Parallel()
	presented := &backends.Request{Backend: "portal", Channel: "a001", Query: "token=x"}
	for name, test := range map[string]struct {
		cause     session.Ban
		presented *backends.Request
		want      int // caused bans
	}{
		"a user who presented a token":            {session.Ban{User: "Ann"}, presented, 1},
		"a user on a channel":                     {session.Ban{User: "Ann", Backend: "portal", Channel: "a001"}, presented, 1},
		"a user of whom nothing is known":         {session.Ban{User: "Ann"}, nil, 0},
		"a user who presented a ticket alone":     {session.Ban{User: "Ann"}, &backends.Request{}, 0},
		"an address, which many viewers may have": {session.Ban{Prefix: prefix("192.0.2.0/24")}, presented, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, ctx := newSingleNode(t), t.Context()
			test.cause.Until, test.cause.Reason, test.cause.IsKick = time.Now().Add(time.Hour), "sharing", true
			cause, err := n.Ban(ctx, test.cause)
			must(t, err)
			for range 2 { // many sessions of one viewer are banned one by one
				must(t, banCredentials(n, cause, test.presented))
			}
			caused := slices.DeleteFunc(n.Bans(), func(b session.Ban) bool { return b.Cause != cause.ID })
			if len(caused) != test.want {
				t.Fatalf("caused %+v, want %d", caused, test.want)
			}
			isBanned := func(channel, query string) bool {
				_, banned := n.Banned(&backends.Request{Backend: "portal", Channel: channel, Query: query}, nil)
				return banned
			}
			if test.want == 0 {
				return
			}
			if b := caused[0]; b.Reason != "sharing" || !b.IsKick || !b.Until.Equal(cause.Until) || b.User != "" {
				t.Errorf("caused %+v by %+v", b, cause)
			}
			if !isBanned("a001", "token=x") || isBanned("a001", "token=y") || isBanned("a002", "token=x") != (cause.Channel == "") {
				t.Error("other viewers are banned than those who present the token, where the user is")
			}
			unban(t, n, cause.ID)
			if isBanned("a001", "token=x") {
				t.Error("the credentials outlive the ban that they follow from")
			}
		})
	}
}

// banCredentials bans what the viewer of a banned user presented.
func banCredentials(n *Node, cause session.Ban, presented *backends.Request) error {
	return n.BanCredentials(context.Background(), func(yield func(session.Ban, *backends.Request) bool) { yield(cause, presented) })
}

func TestNode_BanCredentials_Ended(t *testing.T) {
	t.Parallel()
	n := newSingleNode(t)
	ended := session.Ban{ID: "b", User: "Ann", Until: time.Now().Add(-time.Second)}
	must(t, banCredentials(n, ended, &backends.Request{Query: "token=x"}))
	if got := n.Bans(); len(got) != 0 {
		t.Errorf("a ban that has ended caused %+v", got)
	}
}

// TestNode_Kick_User refuses the user of a kicked session and what they presented, and the session's tickets.
func TestNode_Kick_User(t *testing.T) {
	t.Parallel()
	n, ctx := newSingleNode(t), t.Context()
	presented := &backends.Request{Session: idOf(1), Backend: "portal", Channel: "a001", Query: "token=x"}
	wanted := session.Ban{User: "17", Backend: "portal", Channel: "a001", Reason: "shared", Until: time.Now().Add(time.Minute)}
	kick, err := n.Kick(ctx, idOf(1), openedAgo(5), wanted, presented)
	must(t, err)
	if !kick.IsKick || kick.ID == "" || len(n.Bans()) != 2 {
		t.Errorf("kicked by %+v; bans %+v", kick, n.Bans())
	}
	for what, r := range map[string]*backends.Request{
		"another session of the user": {Session: idOf(2), Backend: "portal", Channel: "a001"},
		"what the viewer presented":   {Session: idOf(3), Backend: "portal", Channel: "a001", Query: "token=x&more=1"},
	} {
		d := &backends.Decision{UserID: "17"}
		if r.Query != "" {
			d = nil
		}
		if b, isBanned := n.Banned(r, d); !isBanned || b.Reason != "shared" {
			t.Errorf("%s: banned %t by %+v", what, isBanned, b)
		}
	}
	got, err := n.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
	if must(t, err); got.Record.RevokedBefore.Before(openedAgo(0).Add(-time.Minute)) {
		t.Errorf("the tickets of the session are revoked until %v", got.Record.RevokedBefore)
	}
	if _, err := n.Kick(ctx, idOf(4), time.Time{}, session.Ban{User: "a", Session: idOf(4), Until: wanted.Until}, nil); err == nil {
		t.Error("a kick with two subjects is placed")
	}
}

// TestNode_BanCredentials_Unavailable: the ban holds here, so it is no error that Redis does not have it.
func TestNode_BanCredentials_Unavailable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := testConfig(server)
	c.RedisTimeout = 100 * time.Millisecond
	n, _ := startPeer(t, c, "n1", nil)
	server.Signal(syscall.SIGSTOP)
	defer server.Signal(syscall.SIGCONT)
	awaitRedisDown(t, n, n.RedisDown)
	cause := session.Ban{ID: "b", User: "Ann", Until: time.Now().Add(time.Hour)}
	presented := &backends.Request{Session: idOf(2), Query: "token=x"}
	must(t, banCredentials(n.Node, cause, presented))
	if _, isBanned := n.Banned(presented, nil); !isBanned {
		t.Error("the viewer is not banned here")
	}
}

// TestNode_Unban_RememberedAMonth remembers an unbanned id until its ban would have ended, and a month at most.
func TestNode_Unban_RememberedAMonth(t *testing.T) {
	t.Parallel()
	for lasts, want := range map[time.Duration]time.Duration{
		time.Hour: time.Hour, unbannedTTL: unbannedTTL, unbannedTTL + time.Hour: unbannedTTL, 5 * 365 * 24 * time.Hour: unbannedTTL,
	} {
		synctest.Test(t, func(t *testing.T) {
			n, now := newSingleNode(t), time.Now()
			var until time.Time
			n.handlers.Store(&Handlers{OnRevocation: func(v session.Revocation) { until = v.Ban.Until }})
			ban, err := n.Ban(t.Context(), session.Ban{User: "Ann", Until: now.Add(lasts)})
			must(t, err)
			unban(t, n, ban.ID)
			if got := until.Sub(now); got != want {
				t.Errorf("a ban for %v: its id is remembered for %v, want %v", lasts, got, want)
			}
			n.Close()
		})
	}
}

// TestNode_Revoked_Handed hands each change on once, and no kick that is over.
func TestNode_Revoked_Handed(t *testing.T) {
	t.Parallel()
	n := newSingleNode(t)
	handed := 0
	n.handlers.Store(&Handlers{OnRevocation: func(session.Revocation) { handed++ }})
	now := time.Now()
	ban := session.Ban{ID: "b", User: "Ann", Until: now.Add(time.Hour)}
	for i, step := range []struct {
		revocation session.Revocation
		want       int
	}{
		{session.Revocation{Kind: session.RevokedBanned, Ban: ban}, 1},
		{session.Revocation{Kind: session.RevokedBanned, Ban: ban}, 1},
		{session.Revocation{Kind: session.RevokedUnbanned, Ban: ban}, 2},
		{session.Revocation{Kind: session.RevokedUnbanned, Ban: ban}, 2},
		{session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Until: now.Add(time.Minute)}, 3},
		{session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Until: now.Add(-time.Minute)}, 3},
		{session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Opened: now, Until: now.Add(-time.Minute)}, 4},
		{session.Revocation{Kind: session.RevokedDenied, Session: idOf(1)}, 5},
	} {
		if n.revoked(step.revocation); handed != step.want {
			t.Errorf("step %d: %d handed on, want %d", i, handed, step.want)
		}
	}
}

// TestNode_Handlers hands on what happens to Redis, and may have no handler for it.
func TestNode_Handlers(t *testing.T) {
	t.Parallel()
	n := newSingleNode(t)
	happen := func() {
		n.recheckAll()
		n.redisRecovered()
		n.ticketReplaced(idOf(1))
		n.limitExceeded("17")
	}
	happen() // without handlers
	if got := n.answer(t.Context(), []byte("who?")); got != nil {
		t.Errorf("answered %q without a handler", got)
	}
	var got []string
	n.handlers.Store(&Handlers{
		RecheckAll:       func() { got = append(got, "recheck") },
		OnRedisRecovered: func() { got = append(got, "recovered") },
		OnTicketReplaced: func(id backends.SessionID) { got = append(got, "ticket of "+id.String()) },
		OnLimitExceeded:  func(user string) { got = append(got, "limit of "+user) },
	})
	happen()
	if want := []string{"recheck", "recovered", "ticket of " + idOf(1).String(), "limit of 17"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := n.AwaitBans(t.Context()); err != nil {
		t.Errorf("a single node does not know its own bans: %v", err)
	}
	if n.Shared() || n.RedisDown() || n.RoundTrips() != 0 || n.Live() != 1 {
		t.Error("a single node shares a store, or waits for one")
	}
}

// TestNode_BanCredentials_Many bans what many viewers of a banned user presented by a few calls, and readmits them by one pass.
func TestNode_BanCredentials_Many(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	const viewers = 1000
	cause, err := peers[0].Ban(t.Context(), session.Ban{User: "guest", Until: time.Now().Add(time.Hour)})
	must(t, err)
	presented := func(i int) *backends.Request { return &backends.Request{Query: fmt.Sprint("token=", i)} }
	server.Client.ConfigResetStat(t.Context())
	must(t, peers[0].BanCredentials(t.Context(), func(yield func(session.Ban, *backends.Request) bool) {
		for i := range viewers {
			if !yield(cause, presented(i)) {
				return
			}
		}
	}))
	stats, err := server.Client.Info(t.Context(), "commandstats").Result()
	must(t, err)
	_, scripts, _ := strings.Cut(stats, "cmdstat_evalsha:calls=")
	calls, _, _ := strings.Cut(scripts, ",")
	if n, err := strconv.Atoi(calls); err != nil || n > viewers/10 {
		t.Errorf("%d credentials banned by %q calls of Redis, want a few", viewers, calls)
	}
	refused := func(p *peer) (n int) {
		for i := range viewers {
			if _, isBanned := p.Banned(presented(i), nil); isBanned {
				n++
			}
		}
		return n
	}
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" refuses all", func() bool { return refused(p) == viewers })
	}
	unban(t, peers[1].Node, cause.ID)
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" admits all", func() bool { return refused(p) == 0 && len(p.Bans()) == 0 })
		if n := p.countReceived("unbanned " + cause.ID); n != 1 || len(p.received()) != viewers+2 {
			t.Errorf("%s: %d revocations, %d of them the end of the ban; want one of each ban and one end", p.Name(), len(p.received()), n)
		}
	}
	redistest.Eventually(t, "redis has no ban", func() bool {
		return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == 0
	})
}

// TestNode_Ban_OtherDatabase has the nodes of one database hear nothing of those of another one, though Redis has one set of channels.
func TestNode_Ban_OtherDatabase(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.Start(t), t.Context()
	start := func(name string, database int) *peer {
		c := testConfig(server)
		c.Redis.Database = database
		p, _ := startPeer(t, c, name, nil)
		return p
	}
	first, other, listener := start("n1", 0), start("n2", 1), start("n3", 1)
	redistest.Eventually(t, "the nodes of the other database know each other", func() bool { return listener.Live() == 2 && other.Live() == 2 })
	_, err := first.Ban(ctx, session.Ban{User: "Ann", Until: time.Now().Add(time.Hour)})
	must(t, err)
	bob, err := other.Ban(ctx, session.Ban{User: "Bob", Until: time.Now().Add(time.Hour)})
	must(t, err)
	redistest.Eventually(t, "the ban of the same database arrives", func() bool {
		return slices.ContainsFunc(listener.Bans(), func(b session.Ban) bool { return b.ID == bob.ID })
	})
	if got := listener.Bans(); len(got) != 1 {
		t.Errorf("the node has the bans %+v, want that of its database alone", got)
	}
	if got := first.Live(); got != 1 {
		t.Errorf("the node of the first database knows %d nodes, want itself", got)
	}
}
