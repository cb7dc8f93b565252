package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRegistry_SessionBanned_SiblingDenied: a ban of a ticket's session denies what the ticket opened at another address.
func TestRegistry_SessionBanned_SiblingDenied(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ban     session.Ban
		matches int64 // at most
	}{
		"a ban of the session":    {session.Ban{ID: "b", Session: idOf(1)}, 2},
		"a kick of many sessions": {session.Ban{ID: "b", Sessions: []backends.SessionID{idOf(1), idOf(5)}}, 3 + 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantSiblingDenied(t, test.ban, test.matches)
		})
	}
}

// wantSiblingDenied wants the sibling denied by one pass over the siblings, and one over all sessions for a ban of many.
func wantSiblingDenied(t *testing.T, ban session.Ban, matches int64) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		var isBanned atomic.Bool
		var matched atomic.Int64
		store := &fakeCluster{isShared: true}
		store.banned = func(r *backends.Request, _ *backends.Decision) (session.Ban, bool) {
			matched.Add(1)
			return session.Ban{ID: "b", Session: r.Session}, isBanned.Load() && r.Session == idOf(1)
		}
		n := newNode(newFakeBackend(backends.PolicyAllow, breakerOpen), store, nil)
		defer n.closeAndDrain()
		sibling := ticketRequest(2, time.Now())
		sibling.Root = idOf(1)
		other := ticketRequest(3, time.Now())
		otherSibling := ticketRequest(4, time.Now())
		otherSibling.Root = idOf(9)
		for _, r := range []session.OpenRequest{sibling, other, otherSibling} {
			if d := n.watch(t, r); d.Verdict != backends.Allowed {
				t.Fatalf("decided %+v", d)
			}
		}
		isBanned.Store(true)
		matched.Store(0)
		n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: ban})
		time.Sleep(10 * time.Second)
		if got := matched.Load(); got > matches {
			t.Errorf("sessions were matched %d times after one ban, want at most %d", got, matches)
		}
		if d := n.Find(idOf(2)).Decision(); d.Source != backends.FromBan {
			t.Errorf("the sibling: %+v", d)
		}
		for _, i := range []int{3, 4} {
			if d := n.Find(idOf(i)).Decision(); d.Verdict != backends.Allowed {
				t.Errorf("another session, %d: %+v", i, d)
			}
		}
	})
}

// TestRegistry_SessionBanned_Denied denies the banned session once, and no other.
func TestRegistry_SessionBanned_Denied(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{isShared: true}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		n.watch(t, openRequest(2))
		ban := session.Revocation{Kind: session.RevokedBanned, Ban: session.Ban{ID: "b", Session: idOf(1)}}
		n.OnRevocation(ban)
		synctest.Wait()
		d := n.Find(idOf(1)).Decision()
		if d.Source != backends.FromBan || d.Verdict != backends.Denied {
			t.Fatalf("the banned session: %+v", d)
		}
		if d := n.Find(idOf(2)).Decision(); d.Verdict != backends.Allowed {
			t.Errorf("another session: %+v", d)
		}
		until := n.Find(idOf(1)).Expires()
		time.Sleep(time.Second)
		n.OnRevocation(ban)
		synctest.Wait()
		if got := n.Find(idOf(1)).Expires(); !got.Equal(until) {
			t.Errorf("the ban that came again denied it until %v, want %v as before", got, until)
		}
	})
}

// TestRegistry_Open_BannedMeanwhile_Denied: a ban of a user denies a session of theirs that is just opening, of which the pass over all
// sessions does not know the user yet.
func TestRegistry_Open_BannedMeanwhile_Denied(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isBanned atomic.Bool
		store := &fakeCluster{isShared: true}
		store.banned = func(_ *backends.Request, d *backends.Decision) (session.Ban, bool) {
			return session.Ban{ID: "b", User: "17"}, isBanned.Load() && d != nil && d.UserID == "17"
		}
		n := newNode(newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			d := allowedDecision()
			d.MaxSessions = 1
			return d, nil
		}), store, nil)
		defer n.closeAndDrain()
		store.beforeJoin = func(context.Context) error { // after the backend's answer was held against the bans
			isBanned.Store(true)
			n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: session.Ban{ID: "b", User: "17"}})
			time.Sleep(50 * time.Millisecond) // the pass over all sessions
			return nil
		}
		n.watch(t, openRequest(1))
		synctest.Wait()
		if d := n.Find(idOf(1)).Decision(); d.Verdict != backends.Denied || d.Source != backends.FromBan {
			t.Errorf("got %v by %v, want a denial by the ban", d.Verdict, d.Source)
		}
	})
}

// TestRegistry_Open_BannedUserOfDenial has a user be banned of whom only the denial of before tells, during an outage that lets unknown
// viewers in. A denial that is valid holds as it is, or the viewer would be unknown once the ban is over.
func TestRegistry_Open_BannedUserOfDenial(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		expires   time.Duration
		isRevoked bool
		want      backends.Source
	}{
		"a denial that is over":                   {-time.Minute, true, backends.FromBan},
		"a denial that is valid":                  {time.Minute, true, backends.FromBackend},
		"a denial that is over spares the ticket": {-time.Minute, false, backends.FromBan},
		"a denial that is valid spares it":        {time.Minute, false, backends.FromBackend},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := &fakeCluster{isShared: true}
				store.banned = func(_ *backends.Request, d *backends.Decision) (session.Ban, bool) {
					return session.Ban{ID: "b", User: "17"}, d != nil && d.UserID == "17"
				}
				denial := deniedDecision()
				denial.UserID = "17"
				record := session.Record{
					ID: idOf(1), Opened: time.Now().Add(-time.Hour).Truncate(time.Second), KeyID: "a", Decision: denial,
					Expires: time.Now().Add(test.expires),
				}
				o := openRequest(1)
				if test.isRevoked {
					record.RevokedBefore = record.Opened
				} else {
					o.Ticket = session.Ticket{Opened: record.Opened.Add(-time.Hour), KeyID: "a"}
				}
				store.set(record)
				b := newFakeBackend(backends.PolicyAllow, breakerOpen)
				b.health.Store(uint32(backends.BreakerOpen))
				n := newNode(b, store, func(s *setup) { s.rules.TokenLife = time.Minute })
				defer n.closeAndDrain()
				if d := n.watch(t, o); d.Verdict != backends.Denied || d.Source != test.want {
					t.Errorf("%v by %v, want denied by %v", d.Verdict, d.Source, test.want)
				}
			})
		})
	}
}

// TestRegistry_Open_BannedUserOfKeptDenial has a user be banned of whom only the denial tells that an outage keeps, and their viewer show a
// ticket that it spares.
func TestRegistry_Open_BannedUserOfKeptDenial(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{}
		store.banned = func(_ *backends.Request, d *backends.Decision) (session.Ban, bool) {
			return session.Ban{ID: "b", User: "17"}, d != nil && d.UserID == "17"
		}
		denial := deniedDecision()
		denial.UserID = "17"
		b := newFakeBackend(backends.PolicyAllow, denying(denial))
		n := newNode(b, store, func(s *setup) { s.rules.TokenLife = time.Hour })
		defer n.closeAndDrain()
		b.isImpaired.Store(true)
		n.watch(t, openRequest(1))
		time.Sleep(DefaultConfig().DenialTTL + time.Second)
		n.showTicket(t, session.Ticket{Opened: time.Now().Add(-2 * time.Hour), KeyID: "a"}, time.Minute, wantDenied(t))
	})
}
