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
	// Opened starts the session, or restarts its opening after a panic.
	Opened struct{}
	// StoreAnswered is what the store said of the session. away: it said nothing. took is how long it needed for that. refused is
	// who may not go on whatever the store's decision, as he is banned or has no place among his user's sessions. The
	// timer's facts are those of now.
	StoreAnswered struct {
		Kind ClaimKind
		Claimed
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
	// Overtaken: another node asked later, so its answer is the one that counts.
	Overtaken struct{}
	// Forgotten: the store lost the session, which is to be saved again.
	Forgotten struct{}
	// Revoked: the session has to go, if it was opened at that time or before; zero: whenever.
	Revoked struct {
		Kind     RevocationKind
		Opened   time.Time
		Decision backends.Decision
	}
	// Pardoned: a ban was taken back.
	Pardoned struct{}
	// Doubted: a revocation may have been missed, so the store is to be looked at.
	Doubted struct{}
	// AnswerOverdue: a waiting viewer's patience is over, or the backend is known to be down. instead and err are what
	// the outage policy says then.
	AnswerOverdue struct {
		Instead backends.Decision
		Err     error
	}
	// TimerFired is the session's own timer. While the backend cannot be asked, instead and err are what the outage
	// policy says.
	TimerFired struct {
		LastSeen time.Time
		Health   backends.BreakerState
		Instead  backends.Decision
		Err      error
	}
	// TurnCame: the pacer lets this session's re-check through.
	TurnCame struct{}
	// CredentialsCame: a session that nobody could ask about, as only its ticket was known, can be asked about now.
	CredentialsCame struct{}
	// Rebuilt follows a panic: the state was made anew from what the session had published.
	Rebuilt struct{}
)

// Lane is where a session waits for its turn to be re-checked.
type Lane uint8

const (
	NoLane       Lane = iota
	StopgapLane       // admitted without an answer: asked about first
	OverdueLane       // validity over
	NumberOfLane = iota
)

// Ending is why a session closes; its strings are a closed set.
type Ending uint8

const (
	NotEnding Ending = iota
	EndedIdle
	EndedDenied
	endedForgotten // a denial or an undecided opening whose memory is over
	endedUnknown   // a ticket that nobody remembers, too old to be believed
	endedElsewhere // the viewer is on another channel
)

func (e Ending) String() string {
	return [...]string{"", "idle", "denied", "forgotten", "unknown-ticket", "superseded"}[e]
}

// ClaimKind is what is wanted of the store.
type ClaimKind uint8

const (
	NoClaim   ClaimKind = iota
	OpenClaim           // a viewer waits: read the session, or be the one who asks
	TurnClaim           // the session's turn to be re-checked has come: be the one who asks
	lookClaim           // see whether another node has asked
)

// Action says what must be done about an event. It is a plain value, so that tests compare it with ==.
type Action struct {
	Claim   ClaimKind // read the store
	Ask     bool      // start the check of the state's newest number
	Queue   Lane      // wait for a turn to re-check
	Refund  bool      // the turn was not needed
	Publish bool      // requests see the decision from now on
	Save    bool      // the store gets the decision
	Release bool      // the store gets the lease back
	Bury    bool      // refuse this session's ticket for as long as it could be revived
	Fence   uint64    // the number under which the store is told
	Ending  Ending    // close the session
	Wake    time.Time // when the timer fires next; zero: as before
}

// Rules are what a session's backend and the config say about times. They are shared and not changed.
type Rules struct {
	Start        time.Time     // of the node: times that others write are counted from it, so that a stepped clock moves nothing
	Validity     time.Duration // of a decision whose backend did not say
	RecheckMin   time.Duration
	RecheckMax   time.Duration
	Jitter       float64 // the share of validity by which renewals come early at most
	TokenLife    time.Duration
	ExpiredToken backends.ExpiredToken
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
	*Rules
	Id       backends.SessionID
	Phase    phase
	asking   bool // a check is on its way
	claiming bool // a claim is on its way
	owner    bool // this node asked last; the others look first whether it has asked again
	HasFacts bool // somebody could be asked: the credentials are known
	Ran      bool // it was allowed once, so that a ticket of it exists
	Check    int  // number of the newest check
	Opened   time.Time
	Key      string // id of the key that signed its ticket
	// Presented is the ticket that the viewer came with; zero without one.
	Presented Ticket
	Margin    time.Duration // see backends.Arrival
	seen      time.Time     // when the viewer was last seen, as the timer said last
	Decision  backends.Decision
	Fence     uint64    // of the decision, over all nodes; see backends.Record
	Lease     uint64    // of the newest check; zero: it has none
	Until     time.Time // when the decision's validity ends
	Expires   time.Time // when decision is to be renewed, or a memory is over
}

// Step applies one event at the given time and says what must be done about it.
func (s *State) Step(event any, now time.Time) Action {
	if s.Phase == closed {
		return Action{}
	}
	switch e := event.(type) {
	case Opened:
		if s.Phase != Opening {
			return Action{}
		}
		s.claiming = true
		return Action{Claim: OpenClaim}
	case StoreAnswered:
		return s.claimed(e, e.Kind, now)
	case BackendAnswered:
		return s.answered(e, now)
	case AnswerOverdue:
		return s.overdue(e, now)
	case TimerFired:
		return s.timerFired(e, now)
	case TurnCame:
		return s.turnCame(now)
	case CredentialsCame:
		return s.credentialsCame(now)
	case Rebuilt:
		return s.rebuilt(now)
	case Overtaken:
		return s.overtaken(now)
	case Forgotten:
		return Action{Save: s.Phase == Allowed || s.Phase == Rechecking, Fence: s.Fence}
	case Revoked:
		return s.revoked(e, now)
	case Pardoned:
		return s.pardoned()
	case Doubted:
		return s.doubted()
	default:
		return Action{}
	}
}

// answered takes the outcome of a check: the newest one's however late.
func (s *State) answered(e BackendAnswered, now time.Time) Action {
	if e.Number != s.Check || !s.asking {
		return Action{}
	}
	s.asking, s.owner = false, true
	if e.Err == nil && s.Lease != 0 && e.Decision.Source.Asked() {
		s.Fence = s.Lease
	}
	switch {
	case e.Err != nil:
		return s.settle(s.unanswered(e.Err, now))
	case e.Decision.Verdict == backends.Allowed:
		a := s.allow(e.Decision, e.Down, now)
		a.Save = !e.Saved
		return s.settle(a)
	case e.Decision.Verdict == backends.Denied:
		a := s.deny(e.Decision, now)
		a.Save = !e.Saved && !a.Bury && e.Decision.Source.Asked()
		return s.settle(a)
	default:
		return s.settle(s.unanswered(errNoVerdict, now))
	}
}

// settle gives the lease back, with what was decided or without.
func (s *State) settle(a Action) Action {
	a.Fence = s.Fence
	if s.Lease != 0 {
		a.Fence, a.Release = s.Lease, !a.Save && !a.Bury
		s.Lease = 0
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
		return s.comeBack(err, now)
	case Rechecking:
		s.Phase = Allowed
		s.Expires = s.renewalAt(s.RecheckMin, now)
		return Action{Wake: s.nextWake(s.presence(now), now)}
	case Allowed:
		return Action{Wake: s.nextWake(s.presence(now), now)}
	default:
		return Action{}
	}
}

// comeBack tells the viewer to try again soon, because nobody could say.
func (s *State) comeBack(err error, now time.Time) Action {
	s.Phase = undecided
	s.Decision = backends.Decision{Verdict: backends.Undecided, Reason: reasonOf(err)}
	s.Expires = now.Add(s.RetryAfter)
	return Action{Publish: true, Wake: s.Expires}
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
	s.Phase, s.Ran = Allowed, true
	s.Decision = d
	a := Action{Publish: true}
	switch {
	case d.Source.Asked():
		s.Expires, s.Until = s.renewalAt(s.Clamped(d.ValidFor), now), now.Add(s.Clamped(d.ValidFor))
	case down && !s.tokenIsSpentAt(now.Add(s.RecheckMin)):
		s.Phase, a.Queue = Rechecking, laneOf(d.Source)
		s.Expires, s.Until = now, now.Add(s.RecheckMin)
	default:
		s.Expires, s.Until = s.renewalAt(s.RecheckMin, now), now.Add(s.RecheckMin)
	}
	a.Wake = s.nextWake(s.presence(now), now)
	return a
}

// deny remembers the denial. A session that was running has a ticket out there, which must not revive it; but a denial
// that is only the outage policy's word says nothing about the viewer, and who lost his place may get it back.
func (s *State) deny(d backends.Decision, now time.Time) Action {
	bury := s.Ran && d.Source.Asked() && d.Source != backends.FromLimit
	s.Phase, s.Decision = denied, d
	s.Expires = now.Add(s.DenyFor)
	s.Until = s.Expires
	return Action{Publish: true, Bury: bury, Wake: s.Expires}
}

// overdue answers the waiting viewer with what the outage policy says. The check goes on, and its answer counts.
func (s *State) overdue(e AnswerOverdue, now time.Time) Action {
	if s.Phase != Opening {
		return Action{}
	}
	switch {
	case s.claiming && !s.HasFacts && s.ticketHolds(now):
		return s.believeTicket(now) // the store is late; were it known to be away, nobody would have waited for it
	case e.Err != nil:
		return s.comeBack(e.Err, now)
	case e.Instead.Verdict == backends.Allowed:
		s.Phase, s.Ran, s.Decision = Allowed, true, e.Instead
		s.Expires, s.Until = s.renewalAt(s.RecheckMin, now), now.Add(s.RecheckMin)
		return Action{Publish: true, Save: true, Wake: s.nextWake(now, now)} // the lease is the check's
	case e.Instead.Verdict == backends.Denied:
		s.Phase, s.Decision = denied, e.Instead
		s.Expires = now.Add(s.DenyFor)
		return Action{Publish: true, Wake: s.Expires}
	default:
		return s.comeBack(errNoVerdict, now)
	}
}
