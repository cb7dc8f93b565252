package backends

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTokenLife(t *testing.T) {
	t.Parallel()
	fresh := Decision{Verdict: Denied, Source: FromBackend, Reason: "fresh"}
	standing := Decision{Verdict: Allowed, Source: FromFailOpen, User: "alice", ValidFor: time.Hour}
	kept := standing
	kept.ValidFor = 0
	ended := Decision{
		Verdict: Denied, Source: FromRule,
		Reason: "session older than backends.portal.token_life=5s, on_expired_token=deny",
	}
	tests := map[string]struct {
		life     time.Duration
		expired  ExpiredToken
		number   int
		age      time.Duration
		standing Decision
		want     Decision
	}{
		"an opening is always asked about":                    {5 * time.Second, ExpiredKeep, 0, time.Hour, Decision{}, fresh},
		"a re-check within the token's life is asked":         {5 * time.Second, ExpiredKeep, 1, 5 * time.Second, standing, fresh},
		"a re-check after it keeps decision and source":       {5 * time.Second, ExpiredKeep, 1, 6 * time.Second, standing, kept},
		"or ends the session, if so configured":               {5 * time.Second, ExpiredDeny, 1, 6 * time.Second, standing, ended},
		"a session without a decision has nothing to lose":    {5 * time.Second, ExpiredKeep, 1, 6 * time.Second, Decision{}, fresh},
		"a token without an end is asked about for ever":      {0, ExpiredKeep, 9, 1000 * time.Hour, standing, fresh},
		"a session from a node whose clock is ahead is asked": {5 * time.Second, ExpiredKeep, 1, -time.Minute, standing, fresh},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := &switchable{now: answering(fresh)}
				b := NewTokenLife("portal", tt.life, tt.expired, calls)
				got, err := b.Check(t.Context(), &Request{
					Number: tt.number, Opened: time.Now().Add(-tt.age), Standing: tt.standing,
				})
				if err != nil {
					t.Fatalf("got error %v", err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("decision (-want +got):\n%s", diff)
				}
				if spared := b.Spared(); int(spared)+calls.asked() != 1 {
					t.Errorf("got %d spared and %d calls, want one of them", spared, calls.asked())
				}
			})
		})
	}
}

func TestExpiredTokenText(t *testing.T) {
	t.Parallel()
	for _, want := range []ExpiredToken{ExpiredKeep, ExpiredDeny} {
		text, _ := want.MarshalText()
		var got ExpiredToken
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %d with error %v, want %d", text, got, err, want)
		}
	}
	var e ExpiredToken
	if got, want := errorText(e.UnmarshalText(nil)), `on_expired_token "": want keep or deny`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
