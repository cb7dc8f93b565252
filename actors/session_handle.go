package actors

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/facts"
	"usher/actors/session"
	"usher/actors/timeline"
	"usher/backends"
)

// Session is the handle of a session for everything but its actor: what the actor published, and counters. All methods are
// safe for concurrent use. None of them locks or allocates, except Request, and Admit when a viewer's address changes.
type Session struct {
	// The fields that every request touches stand together, so that they share cache lines.
	decision atomic.Pointer[backends.Decision]
	backend  atomic.Pointer[backendRuntime]
	lastSeen atomic.Int64 // nanoseconds since the node's start, by the monotonic clock
	requests atomic.Int64
	bytes    atomic.Int64
	answered atomic.Int64 // when the last one was answered, as lastSeen
	// ticketUse is how the session counts among the addresses of its ticket; nil: it has one address.
	ticketUse *ticketUse
	inFlight  atomic.Int32 // requests that are being answered
	flags     sessionFlags

	id       backends.SessionID
	sequence uint64  // distinguishes sessions of the same id
	mail     mailbox // of the session's actor

	request  facts.Opening
	ticket   packedTicket                   // zero until the first decision
	opening  atomic.Pointer[pendingOpening] // nil from the first decision on
	userCell atomic.Uint32                  // where userSpread counts it; 0: nowhere
	// extraLifetime is [session.OpenRequest]'s, in milliseconds.
	extraLifetime int32
	// evicted is what the store holds of an evicted session: the backend's yes. It is nil if the session is not evicted.
	evicted atomic.Pointer[session.Record]

	began   int64        // when this node made the session, in nanoseconds since the node's start
	expires atomic.Int64 // when the decision is renewed, in nanoseconds since the node's start

	reportedSeen atomic.Int64               // the last heartbeat in the store, as lastSeen; 0: none
	stream       atomic.Pointer[userStream] // nil: its user has no limit
	heartbeats   atomic.Int32               // how often this node has reported it
	checkNumber  atomic.Int32               // number of the newest check
	history      atomic.Uint64              // the last eight decisions, the newest in the lowest byte: verdict and source, four bits each
	// targetDuration is that of the viewer's media playlist, in milliseconds, negative if it is complete; 0: unknown.
	targetDuration atomic.Int32
	unverified     atomic.Uint32 // milliseconds without an answer of the backend, 49 days at most; the actor alone adds
	timerDue       atomic.Int64  // when the valid timer entry is due, in nanoseconds since the node's start; 0: none

	timeline timeline.Log // what has decided on it, on this node
}

// sessionFlags are what is or is not so of a session, in four bytes: six atomic.Bool take 24.
type sessionFlags struct{ word atomic.Uint32 }

const (
	// flagPlaying: it counts against its user's limit.
	flagPlaying uint32 = 1 << iota
	// flagCredentials: request holds credentials, so that the backend can be asked.
	flagCredentials
	// flagSettingCredentials: a caller of setCredentials stores them.
	flagSettingCredentials
	// flagClosed: the actor has ended.
	flagClosed
	// flagUnsaved: the store may lack the session, or know it better, since a write or a look-up has failed.
	flagUnsaved
	// flagTicketUnseen: another node may have signed another ticket, since the store has failed.
	flagTicketUnseen
	// flagStopped: its actor handles no message any more. It is set under the mailbox's lock.
	flagStopped
	// flagStarted: its actor has handled the first message. flagCountedViewer: viewerCount counts it. Both are kept when the actor
	// panics.
	flagStarted
	flagCountedViewer
	// flagLost: the store has lost the session, which is to be stored again.
	flagLost
	// flagHandedOver: the store has got what this node counted, or is about to.
	flagHandedOver
	// flagReturned: the store knew the session as one that had not closed, and waits to learn of its end since the look-up.
	flagReturned
	// flagDeniedBefore: it opened with the denial of the session in whose place it is, and no backend has answered since.
	flagDeniedBefore
)

func (f *sessionFlags) has(flag uint32) bool { return f.word.Load()&flag != 0 }

// add sets a flag, and reports whether it was not set.
func (f *sessionFlags) add(flag uint32) bool { return f.word.Or(flag)&flag == 0 }

func (f *sessionFlags) set(flag uint32, isSet bool) {
	if isSet {
		f.word.Or(flag)
	} else {
		f.word.And(^flag)
	}
}

// pendingOpening lets requests wait for the first decision. Until then it keeps what an actor that lost its state restarts
// with.
type pendingOpening struct {
	done     chan struct{}
	began    time.Time
	request  *backends.Request // that opens the session; nil: it opens again. See sessionActor.request
	ticket   session.Ticket    // that the viewer presented
	restarts atomic.Int32      // of the actor
	admitted
	// awaitsBans: only the ticket is known of the viewer, and this node does not yet know all bans.
	awaitsBans atomic.Bool
	// storeDeadline is until when the opening waits for the store. It is set when the store is first asked, and moves by the
	// time in which a check is waited for. Used by the actor alone.
	storeDeadline time.Time
}

// policy returns what the session follows at present.
func (s *Session) policy() *sessionPolicy { return &s.backend.Load().policy }

// ID returns the session's id.
func (s *Session) ID() backends.SessionID { return s.id }

// Decision returns what holds now, or nil before the first decision. The value is not changed.
func (s *Session) Decision() *backends.Decision { return s.decision.Load() }

// Expires returns when the decision is renewed or forgotten. It has no meaning before the first decision.
func (s *Session) Expires() time.Time { return s.policy().Start.Add(time.Duration(s.expires.Load())) }

// Request returns the opening request or, if only a ticket opened the session, the first request with credentials. It is made
// for the caller, with one allocation.
func (s *Session) Request() *backends.Request { return s.request.Request(s.id) }

// Ticket returns what the session's tickets say. It is the zero value before the first decision.
func (s *Session) Ticket() session.Ticket { return s.ticket.get(s.policy().keys) }

// packedTicket is a ticket in one word: the number of its key, and when it was opened in Unix seconds, so that a reader sees
// both of one ticket. Zero is no ticket.
type packedTicket struct{ word atomic.Uint64 }

func (p *packedTicket) set(keys *keyIDs, t session.Ticket) {
	p.word.Store(uint64(keys.number(t.KeyID))<<32 | uint64(uint32(t.Opened.Unix())))
}

func (p *packedTicket) get(keys *keyIDs) session.Ticket {
	word := p.word.Load()
	if word == 0 {
		return session.Ticket{}
	}
	return session.Ticket{Opened: time.Unix(int64(uint32(word)), 0).UTC(), KeyID: keys.name(uint32(word >> 32))}
}

// keyIDs numbers the ids of ticket keys, of which a node sees few: those of the settings, and those that the other nodes' had. It is
// safe for concurrent use.
type keyIDs struct {
	names   atomic.Pointer[[]string] // the names by number, from 1
	adding  sync.Mutex
	numbers sync.Map // numbers by name
}

// number returns the number of a key's id, at least 1.
func (k *keyIDs) number(id string) uint32 {
	if n, isKnown := k.numbers.Load(id); isKnown {
		return n.(uint32)
	}
	k.adding.Lock()
	defer k.adding.Unlock()
	if n, isKnown := k.numbers.Load(id); isKnown {
		return n.(uint32)
	}
	var names []string
	if before := k.names.Load(); before != nil {
		names = *before
	}
	next := append(slices.Clip(names), strings.Clone(id))
	k.names.Store(&next)
	n := uint32(len(next))
	k.numbers.Store(next[n-1], n)
	return n
}

// name returns the id of a number that was given out.
func (k *keyIDs) name(number uint32) string { return (*k.names.Load())[number-1] }

// extraTime returns [session.OpenRequest]'s ExtraLifetime.
func (s *Session) extraTime() time.Duration { return time.Duration(s.extraLifetime) * time.Millisecond }

// Seen counts a request of the viewer at now. The first segment or the second playlist means that the session plays.
func (s *Session) Seen(now time.Time, isPlaylist bool) {
	n := s.requests.Add(1)
	// It always grows, after the count, so that a heartbeat that has read the count before is followed by another one: the request
	// may have come before the session that it opened.
	s.lastSeen.Store(max(int64(now.Sub(s.policy().Start)), s.lastSeen.Load()+1))
	if (!isPlaylist || n > 1) && !s.flags.has(flagPlaying) && s.flags.add(flagPlaying) && s.stream.Load() != nil {
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
	return s.policy().Start.Add(time.Duration(s.touched()))
}

// timerFired returns what a timer tells the session.
func (s *Session) timerFired() session.TimerFired {
	b := s.backend.Load()
	return session.TimerFired{LastSeen: s.lastAsked(time.Now()), Breaker: b.State(), IsImpaired: b.IsImpaired()}
}

// touched returns when the viewer last asked or was answered, as lastSeen.
func (s *Session) touched() int64 { return max(s.lastSeen.Load(), s.answered.Load()) }

// SetTargetDuration sets the target duration of the media playlist that the viewer got, and whether it is complete.
func (s *Session) SetTargetDuration(target time.Duration, isComplete bool) {
	d := int32(min(target.Milliseconds(), math.MaxInt32))
	if isComplete {
		d = -d
	}
	if s.targetDuration.Load() != d {
		s.targetDuration.Store(d)
	}
}

// TargetDuration returns what SetTargetDuration set; zero: this node gave the viewer no media playlist.
func (s *Session) TargetDuration() (target time.Duration, isComplete bool) {
	d := time.Duration(s.targetDuration.Load()) * time.Millisecond
	return max(d, -d), d < 0
}

// The least zap timeouts.
const (
	minZapTimeout = 6 * time.Second
	// minVODZapTimeout is for playlists that are complete, whose players buffer for long.
	minVODZapTimeout = time.Minute
)

// zapTimeoutOf returns for how long a viewer asks for nothing, at most, while they watch a media playlist: a player asks at
// least once in a target duration. It is zero if that is unknown.
func zapTimeoutOf(target time.Duration, isComplete bool) time.Duration {
	switch {
	case target == 0:
		return 0
	case isComplete:
		return max(minVODZapTimeout, target*3/2)
	default:
		return max(minZapTimeout, target*3/2)
	}
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
	const longest = 8 * len("allowed/fail-open,")
	text, codes := make([]byte, 0, longest), s.history.Load()
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

// addUnverified adds a time without an answer of the backend. What the sum cannot hold is left out.
func (s *Session) addUnverified(d time.Duration) {
	s.unverified.Store(uint32(min(int64(s.unverified.Load())+d.Milliseconds(), math.MaxUint32)))
}

// counters returns what this node counted of the session.
func (s *Session) counters() session.Counters {
	return session.Counters{
		Since: s.policy().Start.Add(time.Duration(s.began)), Requests: s.Requests(), Bytes: s.Bytes(), Unverified: time.Duration(s.unverified.Load()) * time.Millisecond, History: s.History(),
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
	if !s.flags.add(flagSettingCredentials) {
		return false
	}
	r, own := *root, s.Request()
	r.Session, r.Address, r.Backend = own.Session, own.Address, own.Backend
	r.Number, r.Opened, r.Bytes = 0, time.Time{}, 0
	s.request.Store(&r)
	s.flags.set(flagCredentials, true)
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
	if s.flags.has(flagCredentials) || !s.flags.add(flagSettingCredentials) {
		return false
	}
	s.request.Store(ofBackend(r, s.backend.Load().name)) // the record of another node may have the settings of before a reload
	s.flags.set(flagCredentials, true)                   // last: a reader that sees it finds the request
	return true
}
