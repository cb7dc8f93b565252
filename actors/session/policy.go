package session

import (
	"time"
)

// Policy holds what the sessions of one backend on one node share. It is not changed.
type Policy struct {
	// Start is the node's start. The state counts time from it by the monotonic clock, so that a stepped clock moves no timer.
	Start time.Time
	// Validity is how long an answer holds for which the backend sets no time.
	Validity time.Duration
	// RecheckMin and RecheckMax bound how long any answer holds.
	RecheckMin, RecheckMax time.Duration
	// Jitter is the largest share of the validity by which a renewal comes early, from 0 to 1.
	Jitter float64
	// TokenLife is how long the backend knows a token; zero: for ever.
	TokenLife time.Duration
	// ExpiredToken says what happens to a session that outlives its token.
	ExpiredToken ExpiredTokenPolicy
	// DenialTTL is how long a denial is remembered; an eviction for evictionTTL at most.
	DenialTTL time.Duration
	// RetryAfter is when a viewer without a verdict may retry.
	RetryAfter time.Duration
	// IdleTimeout is the silence after which a session closes.
	IdleTimeout time.Duration
	// ReviveFor is how old a ticket may be that admits a session without a record.
	ReviveFor time.Duration
	// ReviveDenied reports that the outage policy admits no viewer without an answer, so a ticket alone admits none.
	ReviveDenied bool
	// IsRemoved reports that the settings no longer have the backend, so that no viewer comes whom its denials would refuse.
	IsRemoved bool
	// Shared reports that other nodes use the same store.
	Shared bool
	// LeaseTTL is how long a lease lasts: longer than any check.
	LeaseTTL time.Duration
	// LeaseWait is how long a viewer waits for another node's check.
	LeaseWait time.Duration
}

// Clamped returns how long an answer holds: as long as the backend says, within RecheckMin and RecheckMax.
func (p *Policy) Clamped(validFor time.Duration) time.Duration {
	if validFor <= 0 {
		validFor = p.Validity
	}
	return min(max(validFor, p.RecheckMin), p.RecheckMax)
}

// at returns the time that lies so long after the node's start.
func (p *Policy) at(sinceStart time.Duration) time.Time { return p.Start.Add(sinceStart) }

// since returns how long after the node's start t lies.
func (p *Policy) since(t time.Time) time.Duration { return t.Sub(p.Start) }
