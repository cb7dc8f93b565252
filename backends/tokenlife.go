package backends

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// ExpiredToken is what holds for a session whose token has outlived its life (on_expired_token).
type ExpiredToken uint8

// The choices: ExpiredKeep (zero) leaves the session its decision until its viewer comes with a new token;
// ExpiredDeny ends it.
const (
	ExpiredKeep ExpiredToken = iota
	ExpiredDeny
)

// String is the choice as the config spells it.
func (e ExpiredToken) String() string { return [...]string{"keep", "deny"}[e] }

// MarshalText spells the choice as the config does.
func (e ExpiredToken) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what the config spells.
func (e *ExpiredToken) UnmarshalText(text []byte) error {
	switch string(text) {
	case "keep":
		*e = ExpiredKeep
	case "deny":
		*e = ExpiredDeny
	default:
		return fmt.Errorf("on_expired_token %q: want keep or deny", text)
	}
	return nil
}

// TokenLife answers re-checks that could only mislead. Some middlewares hand out tokens that live for seconds
// (Ministra: 5 s), so asking about one again gets a No for a viewer in good standing. It stands before everything else.
//
// An opening is always asked about, and so is a session on which nobody has decided: it has nothing to lose.
// Safe for concurrent use.
type TokenLife struct {
	name    string
	life    time.Duration
	expired ExpiredToken
	next    Backend
	spared  atomic.Uint64
}

// NewTokenLife answers for sessions older than life; a life of zero has no end. The name is the backend's.
func NewTokenLife(name string, life time.Duration, expired ExpiredToken, next Backend) *TokenLife {
	return &TokenLife{name: name, life: life, expired: expired, next: next}
}

// Check asks, unless the session's token is too old for that.
func (t *TokenLife) Check(ctx context.Context, r *Request) (Decision, error) {
	if !t.outlived(r, time.Now()) {
		return t.next.Check(ctx, r)
	}
	t.spared.Add(1)
	if t.expired == ExpiredDeny {
		return Decision{
			Verdict: Denied, Source: FromRule,
			Reason: fmt.Sprintf("session older than backends.%s.token_life=%s, on_expired_token=deny", t.name, t.life),
		}, nil
	}
	d := r.Standing
	d.ValidFor = 0
	return d, nil
}

// Spared is how many checks were answered without a call since the start.
func (t *TokenLife) Spared() uint64 { return t.spared.Load() }

func (t *TokenLife) outlived(r *Request, now time.Time) bool {
	return t.life > 0 && r.Number > 0 && !r.Unknown() && now.Sub(r.Opened) > t.life
}
