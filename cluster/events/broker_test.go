package events

import (
	"context"
	"slices"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// newTestBroker returns a broker whose Redis is not there, and what it has handed on.
func newTestBroker(t *testing.T) (*Broker, func() []string) {
	t.Helper()
	client := newLonelyClient(t)
	var handed []string
	note := func(what string) { handed = append(handed, what) }
	b := New(Options{
		Client: client, Cipher: goldenCipher(t), Bans: NewBans(), NodeID: "self", NodeName: "n1", Started: time.Now(),
		Retention: time.Hour, Status: func() NodeStatus { return NodeStatus{Name: "n1"} }, Logger: discard(),
		OnRevocation:     func(r session.Revocation) { note("revoked " + r.Kind.String()) },
		RecheckAll:       func() { note("recheck") },
		OnStateLost:      func([]Issued) { note("lost") },
		OnDecision:       func(id backends.SessionID) { note("decision " + id.String()) },
		OnTicketReplaced: func(id backends.SessionID) { note("ticket " + id.String()) },
		OnTicketsMissed:  func() { note("tickets missed") },
		OnLimitExceeded:  func(user string) { note("limit " + user) },
		Answer:           func(context.Context, []byte) []byte { return []byte("yes") },
	})
	return b, func() []string {
		got := handed
		handed = nil
		return got
	}
}

// TestBroker_OnMessage hands each message to whom it is for, and drops what is none.
func TestBroker_OnMessage(t *testing.T) {
	t.Parallel()
	b, take := newTestBroker(t)
	k, id := b.client.Keys(), idOf(1)
	revocation := string(encodeRevocation(goldenCipher(t), "name", session.Revocation{Kind: session.RevokedDenied, Session: id}, time.Now()))
	b.registry.heartbeats.Store(7)
	for name, test := range map[string]struct {
		channel, payload string
		want             []string
	}{
		"a decision":             {k.DecisionChannel(), id.String(), []string{"decision " + id.String()}},
		"another ticket":         {k.DecisionChannel(), id.String() + " ticket", []string{"ticket " + id.String()}},
		"a decision on nothing":  {k.DecisionChannel(), "x", nil},
		"a ticket of nothing":    {k.DecisionChannel(), "x ticket", nil},
		"a limit":                {k.LimitChannel(), "17", []string{"limit 17"}},
		"a revocation":           {k.RevocationChannel(), "0-0 5-0 " + revocation, []string{"revoked denied"}},
		"no revocation":          {k.RevocationChannel(), "0-0", nil},
		"a message to this node": {k.NodeChannel("self"), "heartbeat 7", nil},
	} {
		b.onMessage(t.Context(), test.channel, test.payload)
		if got := take(); !slices.Equal(got, test.want) {
			t.Errorf("%s: handed on %q, want %q", name, got, test.want)
		}
	}
	if got := b.registry.lastEcho.Load(); got != 7 {
		t.Errorf("the echo is %d, want 7", got)
	}
}

// TestBroker_OnSubscribed makes up for what was sent while the node was not subscribed.
func TestBroker_OnSubscribed(t *testing.T) {
	t.Parallel()
	b, take := newTestBroker(t)
	b.onSubscribed()
	if got := take(); !slices.Equal(got, []string{"tickets missed"}) || len(b.wake) != 1 {
		t.Errorf("handed on %q, %d replays requested; want one of each", got, len(b.wake))
	}
}

// TestBroker_WriteFails_ComparesBans applies here what Redis does not take, and compares the bans with it later.
func TestBroker_WriteFails_ComparesBans(t *testing.T) {
	t.Parallel()
	b, take := newTestBroker(t)
	for name, write := range map[string]func() error{
		"a ban": func() error {
			return b.StoreBans(t.Context(), session.Ban{ID: "b", User: "ann", Until: time.Now().Add(time.Hour)})
		},
		"an unbanned id": func() error { return b.RemoveBans(t.Context(), map[string]time.Time{"b": time.Now().Add(time.Hour)}) },
		"nothing":        func() error { return b.StoreBans(t.Context()) },
	} {
		b.bans.bans.isUnsynced = false
		if err := write(); (err == nil) != (name == "nothing") || b.bans.isNeeded() != (err != nil) {
			t.Errorf("%s: error %v, bans are compared: %t", name, err, b.bans.isNeeded())
		}
	}
	v := session.Revocation{Kind: session.RevokedDenied, Session: idOf(1)}
	if err := b.Publish(t.Context(), v); err == nil {
		t.Error("a revocation that nobody got is no error")
	}
	if got := take(); !slices.Equal(got, []string{"revoked denied"}) || len(b.revocations.queued) != 1 {
		t.Errorf("handed on %q, %d queued; want it here at once, and on the others later", got, len(b.revocations.queued))
	}
	b.AddTombstone(session.Ban{ID: "t", Session: idOf(1), Cause: "b", Until: time.Now().Add(time.Hour)})
	if len(b.bans.queued) != 1 || len(b.wakeOnly) != 1 || len(b.wake) != 0 {
		t.Errorf("%d tombstones queued, %d and %d heartbeats requested", len(b.bans.queued), len(b.wakeOnly), len(b.wake))
	}
	if got := b.LiveNodes(); got != 1 {
		t.Errorf("%d nodes live, want this one", got)
	}
}

// TestBroker_Lost_ComparesBans compares the bans when Redis may have lost them.
func TestBroker_Lost_ComparesBans(t *testing.T) {
	t.Parallel()
	b, take := newTestBroker(t)
	for want, happen := range map[string]func(){"recheck": b.revocations.recheckAll, "lost": func() { b.revocations.onStateLost(nil) }} {
		b.bans.bans.isUnsynced = false
		happen()
		if got := take(); !slices.Equal(got, []string{want}) || !b.bans.isNeeded() {
			t.Errorf("handed on %q, bans are compared: %t; want %s", got, b.bans.isNeeded(), want)
		}
	}
}
