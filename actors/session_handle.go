package actors

import (
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"usher/actors/session"
	"usher/backends"
)

// Session is what everybody but its actor sees of a session: what it published, and counters to write. All methods
// are safe for concurrent use; none of them locks or allocates, but Admit when a viewer's address changes.
type Session struct {
	// What every request touches stands together, so that it costs a cold cache as few lines as can be.
	decision atomic.Pointer[backends.Decision]
	rules    *backendRules
	lastSeen atomic.Int64 // nanoseconds since the node's start, by its monotonic clock
	requests atomic.Int64
	bytes    atomic.Int64
	crowd    crowd

	id       backends.SessionID
	backend  string // its name
	sequence uint64 // tells this session from one of the same id before or after it
	pid      *actor.PID

	facts atomic.Pointer[backends.Request]
	// ticket is what the session's tickets say; known from the first decision on.
	ticket atomic.Pointer[session.Ticket]
	first  atomic.Pointer[firstDecision]
	// introduced: credentials are known and facts holds them, so that the backend can be asked. introducing: somebody
	// is about to store them.
	introduced, introducing atomic.Bool
	begun                   atomic.Bool // its actor has started once
	gone                    atomic.Bool // its actor has ended

	expires   atomic.Int64  // when the decision is to be renewed, in nanoseconds since the node's start
	margin    time.Duration // see backends.Arrival
	attending bool          // it is counted among the audience; its actor's alone

	// beaten is what the store heard of LastSeen; zero: nothing yet. fresh: that was for the first time.
	beaten  atomic.Int64
	fresh   atomic.Bool
	counted atomic.Bool // it plays
	member  atomic.Pointer[member]
	history atomic.Uint64 // the last eight decisions, the newest in the lowest byte: verdict and source, four bits each

	stopgap atomic.Int64 // nanoseconds that it was allowed without an answer
	check   atomic.Int64
	wake    atomic.Int64 // when the timer entry that counts is due, in nanoseconds since the node's start; 0: none
}

// firstDecision lets requests wait for the first decision. Until then it also keeps what an actor that lost its state
// begins again with.
type firstDecision struct {
	taken    chan struct{}
	ticket   session.Ticket // that the viewer came with
	restarts atomic.Int32   // of the actor
}

// ID is the session's id.
func (s *Session) ID() backends.SessionID { return s.id }

// Decision is what holds now, or nil while nobody has decided. The value is not changed.
func (s *Session) Decision() *backends.Decision { return s.decision.Load() }

// Expires is when the decision is to be renewed, or its memory is over. It is without meaning while nobody has decided.
func (s *Session) Expires() time.Time { return s.rules.Start.Add(time.Duration(s.expires.Load())) }

// Request are those of the opening request or, where only a ticket opened the session, of the first one with
// credentials. They are never nil; the value is not changed.
func (s *Session) Request() *backends.Request { return s.facts.Load() }

// Ticket is what the session's tickets say. It is the zero value while nobody has decided.
func (s *Session) Ticket() session.Ticket {
	if t := s.ticket.Load(); t != nil {
		return *t
	}
	return session.Ticket{}
}

// Seen notes that the viewer asked for something at now. With his first segment, or his second playlist, he plays.
func (s *Session) Seen(now time.Time, playlist bool) {
	s.lastSeen.Store(int64(now.Sub(s.rules.Start)))
	n := s.requests.Add(1)
	if (!playlist || n > 1) && !s.counted.Load() && s.counted.CompareAndSwap(false, true) && s.member.Load() != nil {
		s.rules.counted(s)
	}
}

// remember adds a decision to the history, if it is another than the last one.
func (s *Session) remember(d *backends.Decision) {
	code := uint64(d.Verdict)<<4 | uint64(d.Source)
	if before := s.history.Load(); before&0xff != code {
		s.history.Store(before<<8 | code)
	}
}

// History are the last decisions that the session stood on, eight at most, the oldest first: "allowed/backend,…".
func (s *Session) History() string {
	var text []byte
	codes := s.history.Load()
	for shift := 56; shift >= 0; shift -= 8 {
		code := codes >> shift & 0xff
		if code == 0 {
			continue
		}
		if len(text) > 0 {
			text = append(text, ',')
		}
		text = append(text, backends.Verdict(code>>4).String()...)
		text = append(text, '/')
		text = append(text, backends.Source(code&0xf).String()...)
	}
	return string(text)
}

// Sent notes that the viewer was sent n bytes.
func (s *Session) Sent(n int64) { s.bytes.Add(n) }

// LastSeen is when the viewer last asked for something.
func (s *Session) LastSeen() time.Time { return s.rules.Start.Add(time.Duration(s.lastSeen.Load())) }

// Requests is how many requests the viewer made.
func (s *Session) Requests() int64 { return s.requests.Load() }

// Bytes is how much the viewer was sent.
func (s *Session) Bytes() int64 { return s.bytes.Load() }

// Admit reports whether a viewer from the address prefix may use the session at now: no more than max prefixes may
// within the time that makes a viewer idle.
func (s *Session) Admit(prefix uint64, now time.Time, maxPrefixes int) bool {
	at := int64(now.Sub(s.rules.Start) / time.Second)
	return s.crowd.admit(prefix, at, int64(s.rules.IdleTimeout/time.Second), maxPrefixes)
}

// introduce stores the facts of a viewer's credentials and reports whether nobody had before.
func (s *Session) introduce(facts *backends.Request) bool {
	if s.introduced.Load() || !s.introducing.CompareAndSwap(false, true) {
		return false
	}
	s.facts.Store(facts)
	s.introduced.Store(true) // last: who sees it finds the facts
	return true
}
