package actors

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRevoker_BurstOfKicks has many kicks arrive at once, one of them of a user on one channel.
func TestRevoker_BurstOfKicks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var matches atomic.Int64
		var isLifted atomic.Bool
		kick := session.Ban{ID: "k7", User: "17", Channel: "a001", Reason: "shared", IsKick: true}
		store := &fakeCluster{banned: func(r *backends.Request, d *backends.Decision) (session.Ban, bool) {
			matches.Add(1)
			isKicked := !isLifted.Load() && d != nil && d.UserID == kick.User && r.Channel == kick.Channel
			return kick, isKicked
		}}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, nil)
		defer n.closeAndDrain()
		const count, kicks = 100, 200
		request := func(i int) session.OpenRequest {
			r := openRequest(i)
			r.Request.Channel = []string{"a001", "a002"}[i%2]
			return r
		}
		open := func(i int) session.Handle {
			s, err := n.Open(t.Context(), request(i))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		sessions := make([]session.Handle, count)
		for i := range sessions {
			sessions[i] = open(i)
		}
		synctest.Wait()
		matches.Store(0)
		for i := range kicks {
			n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: session.Ban{ID: fmt.Sprint("k", i), User: fmt.Sprint("someone", i)}})
		}
		n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: kick})
		synctest.Wait()
		if got := matches.Load(); got > kicks*count/10 {
			t.Errorf("%d kicks matched sessions %d times, want a few passes over %d", kicks, got, count)
		}
		for i, s := range sessions {
			d := s.Decision()
			switch {
			case i%2 == 1 && d.Verdict != backends.Allowed:
				t.Fatalf("on another channel the user is %v by %v", d.Verdict, d.Source)
			case i%2 == 0 && (d.Verdict != backends.Denied || d.Source != backends.FromOperator || d.Reason != "ended by an operator: shared" || d.UserID != "17"):
				t.Fatalf("the kicked user is %v by %v: %s", d.Verdict, d.Source, d.Reason)
			}
		}
		if d := open(count * 2).Decision(); d.Source != backends.FromOperator {
			t.Errorf("the kicked user comes anew and is %v by %v", d.Verdict, d.Source)
		}
		before := sessions[0].Expires()
		time.Sleep(time.Second)
		n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: session.Ban{ID: "another", User: "other"}})
		synctest.Wait()
		if !sessions[0].Expires().Equal(before) {
			t.Error("another ban denied the kicked session once more")
		}
		isLifted.Store(true)
		n.OnRevocation(session.Revocation{Kind: session.RevokedUnbanned, Ban: kick})
		synctest.Wait()
		if d := open(0).Decision(); d.Verdict != backends.Allowed {
			t.Errorf("after the kick was lifted the user is %v by %v", d.Verdict, d.Source)
		}
	})
}
