package session

import (
	"errors"
	"time"

	"usher/backends"
)

// phase is where a session stands.
type phase uint8

const (
	Opening    phase = iota // nobody has decided yet; requests wait
	Allowed                 // watching
	Rechecking              // watching, and being asked about again
	denied                  // refused, and remembered so that a player's retries reach nobody
	undecided               // nobody could say; the viewer was told to come back
	closed                  // over
)

func (p phase) String() string {
	return [...]string{"opening", "allowed", "rechecking", "denied", "undecided", "closed"}[p]
}

// Events: facts that the shell tells the state, in the past tense.
type (
	// OpenRequested starts the session, or restarts its opening after a panic.
	OpenRequested struct{}
	// LeaseAnswered is what the store said of the session. away: it said nothing. took is how long it needed for that. refused is
	// who may not go on whatever the store's decision, as he is banned or has no place among his user's sessions. The
	// timer's facts are those of now.
	LeaseAnswered struct {
		Kind LookupKind
		LeaseResult
		Away    bool
		Took    time.Duration
		Refused *backends.Decision
		TimerFired
	}
	// BackendAnswered is the outcome of the check of that number. err means that nobody could say. down is whether the
	// backend is known to be failing. saved: the store has what it is to remember of it.
	BackendAnswered struct {
		Number   int
		Decision backends.Decision
		Err      error
		Down     bool
		Saved    bool
	}
	// DecisionOutdated: another node asked later, so its answer is the one that counts.
	DecisionOutdated struct{}
	// LostInStore: the store lost the session, which is to be saved again.
	LostInStore struct{}
	// Revoked: the session has to go, if it was opened at that time or before; zero: whenever.
	Revoked struct {
		Kind     RevocationKind
		Opened   time.Time
		Decision backends.Decision
	}
	// Unbanned: a ban was taken back.
	Unbanned struct{}
	// MustReload: a revocation may have been missed, so the store is to be looked at.
	MustReload struct{}
	// WaitExpired: a waiting viewer's patience is over, or the backend is known to be down. instead and err are what
	// the outage policy says then.
	WaitExpired struct {
		Fallback backends.Decision
		Err      error
	}
	// TimerFired is the session's own timer. While the backend cannot be asked, instead and err are what the outage
	// policy says.
	TimerFired struct {
		LastSeen time.Time
		Breaker  backends.BreakerState
		Fallback backends.Decision
		Err      error
	}
	// RecheckGranted: the pacer lets this session's re-check through.
	RecheckGranted struct{}
	// CredentialsArrived: a session that nobody could ask about, as only its ticket was known, can be asked about now.
	CredentialsArrived struct{}
	// Restored follows a panic: the state was made anew from what the session had published.
	Restored struct{}
)

// QueuePriority is where a session waits for its turn to be re-checked.
type QueuePriority uint8

const (
	NotQueued          QueuePriority = iota
	PriorityUnverified               // admitted without an answer: asked about first
	PriorityOverdue                  // validity over
	NumPriorities      = iota
)

// CloseReason is why a session closes; its strings are a closed set.
type CloseReason uint8

const (
	NotClosing CloseReason = iota
	ClosedIdle
	ClosedDenied
	closedForgotten     // a denial or an undecided opening whose memory is over
	closedUnknownTicket // a ticket that nobody remembers, too old to be believed
	closedSuperseded    // the viewer is on another channel
)

func (e CloseReason) String() string {
	return [...]string{"", "idle", "denied", "forgotten", "unknown-ticket", "superseded"}[e]
}

// LookupKind is what is wanted of the store.
type LookupKind uint8

const (
	NoLookup         LookupKind = iota
	LookupForOpening            // a viewer waits: read the session, or be the one who asks
	LookupForRecheck            // the session's turn to be re-checked has come: be the one who asks
	lookupOnly                  // see whether another node has asked
)

// Action says what must be done about an event. It is a plain value, so that tests compare it with ==.
type Action struct {
	Lookup       LookupKind    // read the store
	StartCheck   bool          // start the check of the state's newest number
	Enqueue      QueuePriority // wait for a turn to re-check
	ReturnSlot   bool          // the turn was not needed
	Publish      bool          // requests see the decision from now on
	Save         bool          // the store gets the decision
	ReleaseLease bool          // the store gets the lease back
	RevokeTicket bool          // refuse this session's ticket for as long as it could be revived
	Revision     uint64        // the number under which the store is told
	Close        CloseReason   // close the session
	WakeAt       time.Time     // when the timer fires next; zero: as before
}

// Policy are what a session's backend and the config say about times. They are shared and not changed.
type Policy struct {
	Start        time.Time     // of the node: times that others write are counted from it, so that a stepped clock moves nothing
	Validity     time.Duration // of a decision whose backend did not say
	RecheckMin   time.Duration
	RecheckMax   time.Duration
	Jitter       float64 // the share of validity by which renewals come early at most
	TokenLife    time.Duration
	ExpiredToken backends.ExpiredTokenPolicy
	DenyFor      time.Duration
	RetryAfter   time.Duration
	IdleTimeout  time.Duration
	ReviveFor    time.Duration
	ReviveDenied bool // the outage policy lets in nobody without a yes, so a ticket alone admits nobody
	Shared       bool // other nodes see the store
	// LeaseFor is how long a check may take, and WaitFor how long a viewer waits for another node's.
	LeaseFor, WaitFor time.Duration
}

// State is the state of one viewer's session. Only step changes it.
type State struct {
	*Policy
	ID             backends.SessionID
	Phase          phase
	checkInFlight  bool // a check is on its way
	lookupInFlight bool // a claim is on its way
	checkedHere    bool // this node asked last; the others look first whether it has asked again
	HasCredentials bool // somebody could be asked: the credentials are known
	WasAllowed     bool // it was allowed once, so that a ticket of it exists
	CheckNumber    int  // number of the newest check
	Opened         time.Time
	KeyID          string // id of the key that signed its ticket
	// PresentedTicket is the ticket that the viewer came with; zero without one.
	PresentedTicket Ticket
	ExtraLifetime   time.Duration // see backends.Arrival
	lastSeen        time.Time     // when the viewer was last seen, as the timer said last
	Decision        backends.Decision
	Revision        uint64    // of the decision, over all nodes; see backends.Record
	LeaseRevision   uint64    // of the newest check; zero: it has none
	ValidUntil      time.Time // when the decision's validity ends
	Expires         time.Time // when decision is to be renewed, or a memory is over
}

// Step applies one event at the given time and says what must be done about it.
func (s *State) Step(event any, now time.Time) Action {
	if s.Phase == closed {
		return Action{}
	}
	switch e := event.(type) {
	case OpenRequested:
		if s.Phase != Opening {
			return Action{}
		}
		s.lookupInFlight = true
		return Action{Lookup: LookupForOpening}
	case LeaseAnswered:
		return s.onLeaseAnswer(e, e.Kind, now)
	case BackendAnswered:
		return s.onBackendAnswer(e, now)
	case WaitExpired:
		return s.onWaitExpired(e, now)
	case TimerFired:
		return s.onTimer(e, now)
	case RecheckGranted:
		return s.onRecheckGranted(now)
	case CredentialsArrived:
		return s.onCredentialsArrived(now)
	case Restored:
		return s.onRestored(now)
	case DecisionOutdated:
		return s.onDecisionOutdated(now)
	case LostInStore:
		return Action{Save: s.Phase == Allowed || s.Phase == Rechecking, Revision: s.Revision}
	case Revoked:
		return s.onRevoked(e, now)
	case Unbanned:
		return s.onUnbanned()
	case MustReload:
		return s.onMustReload()
	default:
		return Action{}
	}
}

// onBackendAnswer takes the outcome of a check: the newest one's however late.
func (s *State) onBackendAnswer(e BackendAnswered, now time.Time) Action {
	if e.Number != s.CheckNumber || !s.checkInFlight {
		return Action{}
	}
	s.checkInFlight, s.checkedHere = false, true
	if e.Err == nil && s.LeaseRevision != 0 && e.Decision.Source.IsAuthoritative() {
		s.Revision = s.LeaseRevision
	}
	switch {
	case e.Err != nil:
		return s.releaseLease(s.unanswered(e.Err, now))
	case e.Decision.Verdict == backends.Allowed:
		a := s.allow(e.Decision, e.Down, now)
		a.Save = !e.Saved
		return s.releaseLease(a)
	case e.Decision.Verdict == backends.Denied:
		a := s.deny(e.Decision, now)
		a.Save = !e.Saved && !a.RevokeTicket && e.Decision.Source.IsAuthoritative()
		return s.releaseLease(a)
	default:
		return s.releaseLease(s.unanswered(errNoVerdict, now))
	}
}

// releaseLease gives the lease back, with what was decided or without.
func (s *State) releaseLease(a Action) Action {
	a.Revision = s.Revision
	if s.LeaseRevision != 0 {
		a.Revision, a.ReleaseLease = s.LeaseRevision, !a.Save && !a.RevokeTicket
		s.LeaseRevision = 0
	}
	return a
}

// ErrPanicked says that an adapter is broken. One viewer's answer must not end all the others' gateway.
var ErrPanicked = errors.New("the check panicked")

// errNoVerdict says that a backend broke its contract: an answer is a yes or a no.
var errNoVerdict = errors.New("the answer was neither a yes nor a no")

// unanswered holds on to what there is. A viewer who still waits is asked to come back.
func (s *State) unanswered(err error, now time.Time) Action {
	switch s.Phase {
	case Opening, undecided:
		return s.retryLater(err, now)
	case Rechecking:
		s.Phase = Allowed
		s.Expires = s.renewalAt(s.RecheckMin, now)
		return Action{WakeAt: s.nextWake(s.presence(now), now)}
	case Allowed:
		return Action{WakeAt: s.nextWake(s.presence(now), now)}
	default:
		return Action{}
	}
}

// retryLater tells the viewer to try again soon, because nobody could say.
func (s *State) retryLater(err error, now time.Time) Action {
	s.Phase = undecided
	s.Decision = backends.Decision{Verdict: backends.Pending, Reason: reasonOf(err)}
	s.Expires = now.Add(s.RetryAfter)
	return Action{Publish: true, WakeAt: s.Expires}
}

// reasonOf says why nobody decided. What a failure quotes may hold a viewer's token, so only its kind is told.
func reasonOf(err error) string {
	var o *backends.Overload
	f := backends.AsFailure(err)
	switch {
	case f != nil:
		return "nobody answered: " + f.Kind.String()
	case errors.As(err, &o):
		return o.Error()
	case errors.Is(err, errNoVerdict), errors.Is(err, ErrPanicked):
		return err.Error()
	default:
		return "the check was given up"
	}
}

func (s *State) allow(d backends.Decision, down bool, now time.Time) Action {
	s.Phase, s.WasAllowed = Allowed, true
	s.Decision = d
	a := Action{Publish: true}
	switch {
	case d.Source.IsAuthoritative():
		s.Expires, s.ValidUntil = s.renewalAt(s.Clamped(d.ValidFor), now), now.Add(s.Clamped(d.ValidFor))
	case down && !s.tokenIsSpentAt(now.Add(s.RecheckMin)):
		s.Phase, a.Enqueue = Rechecking, laneOf(d.Source)
		s.Expires, s.ValidUntil = now, now.Add(s.RecheckMin)
	default:
		s.Expires, s.ValidUntil = s.renewalAt(s.RecheckMin, now), now.Add(s.RecheckMin)
	}
	a.WakeAt = s.nextWake(s.presence(now), now)
	return a
}

// deny remembers the denial. A session that was running has a ticket out there, which must not revive it; but a denial
// that is only the outage policy's word says nothing about the viewer, and who lost his place may get it back.
func (s *State) deny(d backends.Decision, now time.Time) Action {
	bury := s.WasAllowed && d.Source.IsAuthoritative() && d.Source != backends.FromLimit
	s.Phase, s.Decision = denied, d
	s.Expires = now.Add(s.DenyFor)
	s.ValidUntil = s.Expires
	return Action{Publish: true, RevokeTicket: bury, WakeAt: s.Expires}
}

// onWaitExpired answers the waiting viewer with what the outage policy says. The check goes on, and its answer counts.
func (s *State) onWaitExpired(e WaitExpired, now time.Time) Action {
	if s.Phase != Opening {
		return Action{}
	}
	switch {
	case s.lookupInFlight && !s.HasCredentials && s.ticketHolds(now):
		return s.admitByTicket(now) // the store is late; were it known to be away, nobody would have waited for it
	case e.Err != nil:
		return s.retryLater(e.Err, now)
	case e.Fallback.Verdict == backends.Allowed:
		s.Phase, s.WasAllowed, s.Decision = Allowed, true, e.Fallback
		s.Expires, s.ValidUntil = s.renewalAt(s.RecheckMin, now), now.Add(s.RecheckMin)
		return Action{Publish: true, Save: true, WakeAt: s.nextWake(now, now)} // the lease is the check's
	case e.Fallback.Verdict == backends.Denied:
		s.Phase, s.Decision = denied, e.Fallback
		s.Expires = now.Add(s.DenyFor)
		return Action{Publish: true, WakeAt: s.Expires}
	default:
		return s.retryLater(errNoVerdict, now)
	}
}
