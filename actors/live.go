package actors

import (
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"usher/backends"
)

// Session is what everybody but its actor sees of a session: what it published, and counters to write. All methods
// are safe for concurrent use; none of them locks or allocates, but Admit when a viewer's address changes.
type Session struct {
	id       backends.SessionID
	backend  string // its name
	sequence uint64 // tells this session from one of the same id before or after it
	pid      *actor.PID
	rules    *rules

	decision atomic.Pointer[backends.Decision]
	facts    atomic.Pointer[backends.Request]
	// ticket is what the session's tickets say; known from the first decision on.
	ticket atomic.Pointer[backends.Ticket]
	first  atomic.Pointer[firstDecision]
	// introduced: credentials are known, so that the backend can be asked.
	introduced atomic.Bool
	begun      atomic.Bool // its actor has started once
	gone       atomic.Bool // its actor has ended

	lastSeen atomic.Int64 // Unix nanoseconds
	requests atomic.Int64
	bytes    atomic.Int64
	stopgap  atomic.Int64 // nanoseconds that it was allowed without an answer
	check    atomic.Int64
	wake     atomic.Int64 // Unix nanoseconds of the timer entry that counts
	crowd    crowd
}

// firstDecision lets requests wait for the first decision.
type firstDecision struct{ taken chan struct{} }

// ID is the session's id.
func (s *Session) ID() backends.SessionID { return s.id }

// Decision is what holds now, or nil while nobody has decided. The value is not changed.
func (s *Session) Decision() *backends.Decision { return s.decision.Load() }

// Facts are those of the opening request, or nil if only a ticket came. The value is not changed.
func (s *Session) Facts() *backends.Request { return s.facts.Load() }

// Ticket is what the session's tickets say. It is the zero value while nobody has decided.
func (s *Session) Ticket() backends.Ticket {
	if t := s.ticket.Load(); t != nil {
		return *t
	}
	return backends.Ticket{}
}

// Seen notes that the viewer asked for something at now.
func (s *Session) Seen(now time.Time) {
	s.lastSeen.Store(now.UnixNano())
	s.requests.Add(1)
}

// Sent notes that the viewer was sent n bytes.
func (s *Session) Sent(n int64) { s.bytes.Add(n) }

// LastSeen is when the viewer last asked for something.
func (s *Session) LastSeen() time.Time { return time.Unix(0, s.lastSeen.Load()) }

// Requests is how many requests the viewer made.
func (s *Session) Requests() int64 { return s.requests.Load() }

// Bytes is how much the viewer was sent.
func (s *Session) Bytes() int64 { return s.bytes.Load() }

// Admit reports whether a viewer from the address prefix may use the session at now: no more than max prefixes may
// within the time that makes a viewer idle.
func (s *Session) Admit(prefix uint64, now time.Time, maxPrefixes int) bool {
	return s.crowd.admit(prefix, now.Unix(), int64(s.rules.idleTimeout/time.Second), maxPrefixes)
}
