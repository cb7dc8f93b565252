package session

import (
	"fmt"
	"time"

	"usher/backends"
)

// StreamEntry is a session among the streams of its user.
type StreamEntry struct {
	// User is whose streams are counted, over all channels: a keyed hash that all nodes know them by.
	User    string
	Session backends.SessionID
	// Opened is when the session was opened.
	Opened time.Time
	// LastSeen is when its viewer last asked for something, by this node's clock.
	LastSeen time.Time
	// IsPlaying reports that the session counts: a segment or a second playlist was asked for.
	IsPlaying bool
	// ZapTimeout is the longest silence of a viewer who watches; zero: unknown.
	ZapTimeout time.Duration
	// Group is the same for the sessions of one viewer on one channel whose addresses differ; zero: there are no others. Of a
	// group, an IPv4 and an IPv6 stream count as one: a viewer with both uses either.
	Group  backends.SessionID
	IsIPv6 bool
	// Device tells the user's devices apart, where the route names device fields: a keyed hash, of which 16 bytes count; empty:
	// unknown.
	Device string
	// MaxStreams is how many of the user's sessions may play at once; at least 1.
	MaxStreams int

	// IsNew: the session was just opened.
	IsNew bool
	// IsLeaving: the session has ended. Only its name and its user are read.
	IsLeaving bool
	// IsAssumed: the session is only believed to play, so that a report of its own counts more.
	IsAssumed bool
}

// StreamState is what a user's limit says of one of their streams.
type StreamState uint8

// The states of a stream.
const (
	// StreamActive means that the stream may play.
	StreamActive StreamState = iota
	// StreamEvicted means that the limit is exceeded. The stream is refused while it keeps asking, and plays again once a
	// stream is free.
	StreamEvicted
	// StreamSuperseded means that the viewer plays another channel. The ticket is refused; credentials open the session again
	// at once.
	StreamSuperseded
)

// String returns the state for logs and tests.
func (s StreamState) String() string { return [...]string{"active", "evicted", "superseded"}[s] }

// EvictedStream is a stream that is no longer active.
type EvictedStream struct {
	Session backends.SessionID
	Opened  time.Time
	State   StreamState
}

// LimitResult is what a user's limit says of their streams.
type LimitResult struct {
	// States holds the state of each stream in the call, in its order.
	States []StreamState
	// IsLocal reports that the store did not count the streams in time. The states are what this node alone knows.
	IsLocal bool
	// RecheckIn is when to ask again at the latest, because the limit is exceeded or the store did not count; zero: with the
	// next heartbeat.
	RecheckIn time.Duration
	// Evicted lists the user's streams that this call evicted or superseded, those in the call included. Each is listed once.
	Evicted []EvictedStream
}

// LimitRules are the rules of all users' limits.
type LimitRules struct {
	Policy LimitPolicy
	// GracePeriod is how long a user may at least exceed their limit, so that a handover or a zap refuses no viewer.
	GracePeriod time.Duration
	// HeartbeatInterval is how often a node reports a stream.
	HeartbeatInterval time.Duration
	// EvictionTTL is the silence after which an evicted session may return as a new one.
	EvictionTTL time.Duration
	// IdleTimeout is the silence after which a session is no stream.
	IdleTimeout time.Duration
}

// LimitPolicy is which stream is evicted when a user plays more streams than they may.
type LimitPolicy uint8

// The policies.
const (
	// EvictOldest evicts the session that was opened first, as Flussonic does. It is the default.
	EvictOldest LimitPolicy = iota
	// RejectNew evicts the session that was opened last.
	RejectNew
)

// String returns the policy as the config spells it.
func (p LimitPolicy) String() string { return [...]string{"evict-oldest", "reject-new"}[p] }

// MarshalText returns the policy as the config spells it.
func (p LimitPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the policy as the config spells it.
func (p *LimitPolicy) UnmarshalText(text []byte) error {
	for candidate := EvictOldest; candidate <= RejectNew; candidate++ {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("policy %q: want evict-oldest or reject-new", text)
}
