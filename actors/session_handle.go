package actors

import (
	"strconv"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/actors/timeline"
	"usher/backends"
)

// Session is the handle of a session for everything but its actor: what the actor published, and counters. All methods are
// safe for concurrent use. None of them locks or allocates, except Admit when a viewer's address changes.
type Session struct {
	// The fields that every request touches stand together, so that they share cache lines.
	decision atomic.Pointer[backends.Decision]
	backend  atomic.Pointer[backendRuntime]
	lastSeen atomic.Int64 // nanoseconds since the node's start, by the monotonic clock
	requests atomic.Int64
	bytes    atomic.Int64

	id       backends.SessionID
	sequence uint64 // distinguishes sessions of the same id
	ref      actorRef
	// ticketUse is how the session counts among the addresses of its ticket; nil: it has one address.
	ticketUse *ticketUse

	request atomic.Pointer[backends.Request]
	ticket  atomic.Pointer[session.Ticket] // nil until the first decision
	opening atomic.Pointer[pendingOpening] // nil from the first decision on
	// hasCredentials: request holds credentials, so that the backend can be asked.
	hasCredentials atomic.Bool
	// isSettingCredentials: a caller of setCredentials stores them.
	isSettingCredentials atomic.Bool
	isStarted            atomic.Bool // the actor has started once
	isClosed             atomic.Bool // the actor has ended
	// isUnsaved: the store may lack the session, or know it better, since a write or a look-up has failed.
	isUnsaved atomic.Bool
	// isTicketUnseen: another node may have signed another ticket, since the store has failed.
	isTicketUnseen atomic.Bool
	// evicted is what the store holds of an evicted session: the backend's yes. It is nil if the session is not evicted.
	evicted atomic.Pointer[session.Record]

	began           int64         // when this node made the session, in nanoseconds since the node's start
	expires         atomic.Int64  // when the decision is renewed, in nanoseconds since the node's start
	extraLifetime   time.Duration // see [session.OpenRequest]
	isCountedViewer bool          // viewerCount counts it; used by the actor alone

	userCell atomic.Uint32 // where userSpread counts it; 0: nowhere

	reportedSeen atomic.Int64               // the last heartbeat in the store, as lastSeen; 0: none
	heartbeats   atomic.Int32               // how often this node has reported it
	isPlaying    atomic.Bool                // it counts against its user's limit
	stream       atomic.Pointer[userStream] // nil: its user has no limit
	inFlight     atomic.Int64               // requests that are being answered
	answered     atomic.Int64               // when the last one was answered, as lastSeen
	history      atomic.Uint64              // the last eight decisions, the newest in the lowest byte: verdict and source, four bits each
	// targetDuration is that of the viewer's media playlist, in nanoseconds, negative if it is complete; 0: unknown.
	targetDuration atomic.Int64

	unverified  atomic.Int64 // nanoseconds without an answer of the backend
	checkNumber atomic.Int64 // of the newest check
	timerDue    atomic.Int64 // when the valid timer entry is due, in nanoseconds since the node's start; 0: none

	timeline timeline.Log // what has decided on it, on this node
}

// pendingOpening lets requests wait for the first decision. Until then it keeps what an actor that lost its state restarts
// with.
type pendingOpening struct {
	done     chan struct{}
	began    time.Time
	ticket   session.Ticket // that the viewer presented
	restarts atomic.Int32   // of the actor
	// awaitsBans: only the ticket is known of the viewer, and this node does not yet know all bans.
	awaitsBans atomic.Bool
}

// policy returns what the session follows at present.
func (s *Session) policy() *sessionPolicy { return &s.backend.Load().policy }

// ID returns the session's id.
func (s *Session) ID() backends.SessionID { return s.id }

// actorName returns the id with the sequence number, so that a message to a closed session never reaches a new one.
func (s *Session) actorName() string {
	return s.id.String() + "." + strconv.FormatUint(s.sequence, 36)
}

// Decision returns what holds now, or nil before the first decision. The value is not changed.
func (s *Session) Decision() *backends.Decision { return s.decision.Load() }

// Expires returns when the decision is renewed or forgotten. It has no meaning before the first decision.
func (s *Session) Expires() time.Time { return s.policy().Start.Add(time.Duration(s.expires.Load())) }

// Request returns the opening request or, if only a ticket opened the session, the first request with credentials. It is
// never nil; the value is not changed.
func (s *Session) Request() *backends.Request { return s.request.Load() }

// Ticket returns what the session's tickets say. It is the zero value before the first decision.
func (s *Session) Ticket() session.Ticket {
	if t := s.ticket.Load(); t != nil {
		return *t
	}
	return session.Ticket{}
}

// Seen counts a request of the viewer at now. The first segment or the second playlist means that the session plays.
func (s *Session) Seen(now time.Time, isPlaylist bool) {
	s.lastSeen.Store(int64(now.Sub(s.policy().Start)))
	n := s.requests.Add(1)
	if (!isPlaylist || n > 1) && !s.isPlaying.Load() && s.isPlaying.CompareAndSwap(false, true) && s.stream.Load() != nil {
		s.policy().onPlaying(s)
	}
}

// Begin notes that a request is being answered, so that its viewer is not silent until [Session.End].
func (s *Session) Begin() { s.inFlight.Add(1) }

// End notes that a request was answered.
func (s *Session) End(now time.Time) {
	s.answered.Store(int64(now.Sub(s.policy().Start)))
	s.inFlight.Add(-1)
}

// lastAsked returns until when the viewer asked for something: now, while a request is being answered.
func (s *Session) lastAsked(now time.Time) time.Time {
	if s.inFlight.Load() > 0 {
		return now
	}
	return s.policy().Start.Add(time.Duration(max(s.lastSeen.Load(), s.answered.Load())))
}

// SetTargetDuration sets the target duration of the media playlist that the viewer got, and whether it is complete.
func (s *Session) SetTargetDuration(target time.Duration, isComplete bool) {
	d := int64(target)
	if isComplete {
		d = -d
	}
	if s.targetDuration.Load() != d {
		s.targetDuration.Store(d)
	}
}

// TargetDuration returns what SetTargetDuration set; zero: this node gave the viewer no media playlist.
func (s *Session) TargetDuration() (target time.Duration, isComplete bool) {
	d := s.targetDuration.Load()
	if d < 0 {
		return time.Duration(-d), true
	}
	return time.Duration(d), false
}

// addToHistory adds a decision to the history, unless it equals the last one.
func (s *Session) addToHistory(d *backends.Decision) {
	code := uint64(d.Verdict)<<4 | uint64(d.Source)
	if before := s.history.Load(); before&0xff != code {
		s.history.Store(before<<8 | code)
	}
}

// History returns the last decisions, eight at most, the oldest first: "allowed/backend,…".
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

// counters returns what this node counted of the session.
func (s *Session) counters() session.Counters {
	return session.Counters{
		Since: s.policy().Start.Add(time.Duration(s.began)), Requests: s.Requests(), Bytes: s.Bytes(), Unverified: time.Duration(s.unverified.Load()), History: s.History(),
	}
}

// wasAllowed reports whether the viewer ever watched here, so that there is something to record.
func (s *Session) wasAllowed() bool {
	if s.reportedSeen.Load() != 0 {
		return true
	}
	for codes := s.history.Load(); codes != 0; codes >>= 8 {
		if backends.Verdict(codes>>4&0xf) == backends.Allowed {
			return true
		}
	}
	return false
}

// closingRecord returns what would be recorded of the session if it closed now.
func (s *Session) closingRecord() session.ClosingRecord {
	c := s.counters()
	return session.ClosingRecord{
		Record:   session.Record{ID: s.id, Opened: s.Ticket().Opened, Decision: *s.Decision(), Request: s.Request()},
		Counters: c, Since: c.Since, LastSeen: s.LastSeen(), Sequence: s.sequence,
	}
}

// Sent counts n bytes that were sent to the viewer.
func (s *Session) Sent(n int64) { s.bytes.Add(n) }

// LastSeen returns the time of the viewer's last request.
func (s *Session) LastSeen() time.Time { return s.policy().Start.Add(time.Duration(s.lastSeen.Load())) }

// Requests returns the number of the viewer's requests.
func (s *Session) Requests() int64 { return s.requests.Load() }

// Bytes returns the number of bytes that were sent to the viewer.
func (s *Session) Bytes() int64 { return s.bytes.Load() }

// rootOpened returns when the root of a sibling was opened; zero: the session is no sibling.
func (s *Session) rootOpened() time.Time {
	if !s.ticketUse.isSibling() {
		return time.Time{}
	}
	return s.ticketUse.rootOpened
}

// inherit makes the facts of a sibling's root its own, except the address. It reports whether it did.
func (s *Session) inherit(root *backends.Request) bool {
	if !s.isSettingCredentials.CompareAndSwap(false, true) {
		return false
	}
	r, own := *root, s.Request()
	r.Session, r.Address, r.Backend = own.Session, own.Address, own.Backend
	r.Number, r.Opened, r.Bytes = 0, time.Time{}, 0
	s.request.Store(&r)
	s.hasCredentials.Store(true)
	return true
}

// ofBackend returns the request as one to the backend of that name.
func ofBackend(r *backends.Request, name string) *backends.Request {
	if r.Backend == name {
		return r
	}
	other := *r
	other.Backend = name
	return &other
}

// setCredentials stores the first request with credentials, and reports whether it did.
func (s *Session) setCredentials(r *backends.Request) bool {
	if s.hasCredentials.Load() || !s.isSettingCredentials.CompareAndSwap(false, true) {
		return false
	}
	s.request.Store(ofBackend(r, s.backend.Load().name)) // the record of another node may have the settings of before a reload
	s.hasCredentials.Store(true)                         // last: a reader that sees it finds the request
	return true
}
