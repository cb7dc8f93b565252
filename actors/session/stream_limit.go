package session

import (
	"fmt"
	"time"

	"usher/backends"
)

// LimitPolicy is who has to go when a user watches more streams at once than he may.
type LimitPolicy uint8

// The policies. EvictOldest, Flussonic's way, is the default: the session that opened first goes. RejectNew lets those go
// on who were first.
const (
	EvictOldest LimitPolicy = iota
	RejectNew
)

// String is the policy as the config spells it.
func (p LimitPolicy) String() string { return [...]string{"evict-oldest", "reject-new"}[p] }

// MarshalText spells the policy as the config does.
func (p LimitPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what the config spells.
func (p *LimitPolicy) UnmarshalText(text []byte) error {
	for candidate := EvictOldest; candidate <= RejectNew; candidate++ {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("policy %q: want evict-oldest or reject-new", text)
}

// LimitRules are what holds for all users' limits.
type LimitRules struct {
	Policy LimitPolicy
	// GracePeriod is for how long a user may exceed his limit, so that a handover or a zap refuses nobody. After it the limit
	// holds exactly.
	GracePeriod time.Duration
	// ZapTimeout is after how long a session that asks for nothing is one that its viewer zapped away from, if another one of
	// the same user and address plays: more than the longest target duration of the channels.
	ZapTimeout time.Duration
	// EvictionTTL is the silence after which an evicted session may come back as if it were new.
	EvictionTTL time.Duration
	// IdleTimeout is the silence after which a session has no place any more.
	IdleTimeout time.Duration
}

// StreamEntry is a session among those of its user.
type StreamEntry struct {
	// User is who the limit is counted for, over all channels: opaque, never shown.
	User    string
	Session backends.SessionID
	// Opened is the session's age.
	Opened time.Time
	// LastSeen is when its viewer last asked for something, by this node's clock.
	LastSeen time.Time
	// IsPlaying: it plays, so it takes a place: a segment was asked for, or a second playlist.
	IsPlaying bool
	// Device is what the route tells the user's devices apart by; empty: nobody knows. Address is the viewer's.
	Device  string
	Address string
	// MaxStreams is how many of the user's sessions may play at once; at least 1.
	MaxStreams int
}

// StreamState is how a session stands among those of its user.
type StreamState uint8

// The standings. Evicted: the limit was exceeded; it is refused while its viewer keeps asking, and may come back when a
// place is free. Superseded: its viewer is on another channel; its ticket is refused, credentials open it again at once.
const (
	StreamActive StreamState = iota
	StreamEvicted
	StreamSuperseded
)

// String is the standing for logs and tests.
func (s StreamState) String() string { return [...]string{"held", "evicted", "superseded"}[s] }

// EvictedStream is a session that lost its place.
type EvictedStream struct {
	Session backends.SessionID
	Opened  time.Time
	State   StreamState
}

// LimitResult is what a user's limit says of his sessions.
type LimitResult struct {
	// States are how those stand that were asked about, in their order.
	States []StreamState
	// RecheckIn is when to ask again at the latest, because the limit is exceeded; zero: with the next heartbeat.
	RecheckIn time.Duration
	// Evicted are the user's sessions that lost their places by this call, perhaps one that was asked about. They are told
	// once.
	Evicted []EvictedStream
}
