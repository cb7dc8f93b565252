package actors

import (
	"errors"
	"time"

	"usher/backends"
)

// phase is where a session stands.
type phase uint8

const (
	opening    phase = iota // nobody has decided yet; requests wait
	allowed                 // watching
	rechecking              // watching, and being asked about again
	denied                  // refused, and remembered so that a player's retries reach nobody
	undecided               // nobody could say; the viewer was told to come back
	closed                  // over
)

func (p phase) String() string {
	return [...]string{"opening", "allowed", "rechecking", "denied", "undecided", "closed"}[p]
}

// Events: facts that the shell tells the state, in the past tense.
type (
	// opened starts the session, or restarts its opening after a panic.
	opened struct{}
	// claimed is what the store said of the session. away: it said nothing. took is how long it needed for that. refused is
	// who may not go on whatever the store's decision, as he is banned or has no place among his user's sessions. The
	// timer's facts are those of now.
	claimed struct {
		kind claimKind
		backends.Claimed
		away    bool
		took    time.Duration
		refused *backends.Decision
		timerFired
	}
	// backendAnswered is the outcome of the check of that number. err means that nobody could say. down is whether the
	// backend is known to be failing. saved: the store has what it is to remember of it.
	backendAnswered struct {
		number   int
		decision backends.Decision
		err      error
		down     bool
		saved    bool
	}
	// overtaken: another node asked later, so its answer is the one that counts.
	overtaken struct{}
	// forgotten: the store lost the session, which is to be saved again.
	forgotten struct{}
	// revoked: the session has to go, if it was opened at that time or before; zero: whenever.
	revoked struct {
		kind     backends.RevocationKind
		opened   time.Time
		decision backends.Decision
	}
	// pardoned: a ban was taken back.
	pardoned struct{}
	// doubted: a revocation may have been missed, so the store is to be looked at.
	doubted struct{}
	// answerOverdue: a waiting viewer's patience is over, or the backend is known to be down. instead and err are what
	// the outage policy says then.
	answerOverdue struct {
		instead backends.Decision
		err     error
	}
	// timerFired is the session's own timer. While the backend cannot be asked, instead and err are what the outage
	// policy says.
	timerFired struct {
		lastSeen time.Time
		health   backends.BreakerState
		instead  backends.Decision
		err      error
	}
	// turnCame: the pacer lets this session's re-check through.
	turnCame struct{}
	// credentialsCame: a session that nobody could ask about, as only its ticket was known, can be asked about now.
	credentialsCame struct{}
	// rebuilt follows a panic: the state was made anew from what the session had published.
	rebuilt struct{}
)

// lane is where a session waits for its turn to be re-checked.
type lane uint8

const (
	noLane       lane = iota
	stopgapLane       // admitted without an answer: asked about first
	overdueLane       // validity over
	numberOfLane = iota
)

// ending is why a session closes; its strings are a closed set.
type ending uint8

const (
	notEnding ending = iota
	endedIdle
	endedDenied
	endedForgotten // a denial or an undecided opening whose memory is over
	endedUnknown   // a ticket that nobody remembers, too old to be believed
	endedElsewhere // the viewer is on another channel
)

func (e ending) String() string {
	return [...]string{"", "idle", "denied", "forgotten", "unknown-ticket", "superseded"}[e]
}

// claimKind is what is wanted of the store.
type claimKind uint8

const (
	noClaim   claimKind = iota
	openClaim           // a viewer waits: read the session, or be the one who asks
	turnClaim           // the session's turn to be re-checked has come: be the one who asks
	lookClaim           // see whether another node has asked
)

// action says what must be done about an event. It is a plain value, so that tests compare it with ==.
type action struct {
	claim   claimKind // read the store
	ask     bool      // start the check of the state's newest number
	queue   lane      // wait for a turn to re-check
	refund  bool      // the turn was not needed
	publish bool      // requests see the decision from now on
	save    bool      // the store gets the decision
	release bool      // the store gets the lease back
	bury    bool      // refuse this session's ticket for as long as it could be revived
	fence   uint64    // the number under which the store is told
	ending  ending    // close the session
	wake    time.Time // when the timer fires next; zero: as before
}

// rules are what a session's backend and the config say about times. They are shared and not changed.
type rules struct {
	start        time.Time     // of the node: times that others write are counted from it, so that a stepped clock moves nothing
	validity     time.Duration // of a decision whose backend did not say
	recheckMin   time.Duration
	recheckMax   time.Duration
	jitter       float64 // the share of validity by which renewals come early at most
	tokenLife    time.Duration
	expiredToken ExpiredTokenPolicy
	denyFor      time.Duration
	retryAfter   time.Duration
	idleTimeout  time.Duration
	reviveFor    time.Duration
	reviveDenied bool // the outage policy lets in nobody without a yes, so a ticket alone admits nobody
	shared       bool // other nodes see the store
	// leaseFor is how long a check may take, and waitFor how long a viewer waits for another node's.
	leaseFor, waitFor time.Duration
	counted           func(*Session) // told once when a session begins to play
}

// session is the state of one viewer's session. Only step changes it.
type session struct {
	*rules
	id       backends.SessionID
	phase    phase
	asking   bool // a check is on its way
	claiming bool // a claim is on its way
	owner    bool // this node asked last; the others look first whether it has asked again
	hasFacts bool // somebody could be asked: the credentials are known
	ran      bool // it was allowed once, so that a ticket of it exists
	check    int  // number of the newest check
	opened   time.Time
	key      string // id of the key that signed its ticket
	// presented is the ticket that the viewer came with; zero without one.
	presented backends.Ticket
	margin    time.Duration // see backends.Arrival
	seen      time.Time     // when the viewer was last seen, as the timer said last
	decision  backends.Decision
	fence     uint64    // of the decision, over all nodes; see backends.Record
	lease     uint64    // of the newest check; zero: it has none
	until     time.Time // when the decision's validity ends
	expires   time.Time // when decision is to be renewed, or a memory is over
}

// step applies one event at the given time and says what must be done about it.
func (s *session) step(event any, now time.Time) action {
	if s.phase == closed {
		return action{}
	}
	switch e := event.(type) {
	case opened:
		if s.phase != opening {
			return action{}
		}
		s.claiming = true
		return action{claim: openClaim}
	case claimed:
		return s.claimed(e, e.kind, now)
	case backendAnswered:
		return s.answered(e, now)
	case answerOverdue:
		return s.overdue(e, now)
	case timerFired:
		return s.timerFired(e, now)
	case turnCame:
		return s.turnCame(now)
	case credentialsCame:
		return s.credentialsCame(now)
	case rebuilt:
		return s.rebuilt(now)
	case overtaken:
		return s.overtaken(now)
	case forgotten:
		return action{save: s.phase == allowed || s.phase == rechecking, fence: s.fence}
	case revoked:
		return s.revoked(e, now)
	case pardoned:
		return s.pardoned()
	case doubted:
		return s.doubted()
	default:
		return action{}
	}
}

// answered takes the outcome of a check: the newest one's however late.
func (s *session) answered(e backendAnswered, now time.Time) action {
	if e.number != s.check || !s.asking {
		return action{}
	}
	s.asking, s.owner = false, true
	if e.err == nil && s.lease != 0 && e.decision.Source.Asked() {
		s.fence = s.lease
	}
	switch {
	case e.err != nil:
		return s.settle(s.unanswered(e.err, now))
	case e.decision.Verdict == backends.Allowed:
		a := s.allow(e.decision, e.down, now)
		a.save = !e.saved
		return s.settle(a)
	case e.decision.Verdict == backends.Denied:
		a := s.deny(e.decision, now)
		a.save = !e.saved && !a.bury && e.decision.Source.Asked()
		return s.settle(a)
	default:
		return s.settle(s.unanswered(errNoVerdict, now))
	}
}

// settle gives the lease back, with what was decided or without.
func (s *session) settle(a action) action {
	a.fence = s.fence
	if s.lease != 0 {
		a.fence, a.release = s.lease, !a.save && !a.bury
		s.lease = 0
	}
	return a
}

// errPanicked says that an adapter is broken. One viewer's answer must not end all the others' gateway.
var errPanicked = errors.New("the check panicked")

// errNoVerdict says that a backend broke its contract: an answer is a yes or a no.
var errNoVerdict = errors.New("the answer was neither a yes nor a no")

// unanswered holds on to what there is. A viewer who still waits is asked to come back.
func (s *session) unanswered(err error, now time.Time) action {
	switch s.phase {
	case opening, undecided:
		return s.comeBack(err, now)
	case rechecking:
		s.phase = allowed
		s.expires = s.renewalAt(s.recheckMin, now)
		return action{wake: s.nextWake(s.presence(now), now)}
	case allowed:
		return action{wake: s.nextWake(s.presence(now), now)}
	default:
		return action{}
	}
}

// comeBack tells the viewer to try again soon, because nobody could say.
func (s *session) comeBack(err error, now time.Time) action {
	s.phase = undecided
	s.decision = backends.Decision{Verdict: backends.Undecided, Reason: reasonOf(err)}
	s.expires = now.Add(s.retryAfter)
	return action{publish: true, wake: s.expires}
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
	case errors.Is(err, errNoVerdict), errors.Is(err, errPanicked):
		return err.Error()
	default:
		return "the check was given up"
	}
}

func (s *session) allow(d backends.Decision, down bool, now time.Time) action {
	s.phase, s.ran = allowed, true
	s.decision = d
	a := action{publish: true}
	switch {
	case d.Source.Asked():
		s.expires, s.until = s.renewalAt(s.clamped(d.ValidFor), now), now.Add(s.clamped(d.ValidFor))
	case down && !s.tokenIsSpentAt(now.Add(s.recheckMin)):
		s.phase, a.queue = rechecking, laneOf(d.Source)
		s.expires, s.until = now, now.Add(s.recheckMin)
	default:
		s.expires, s.until = s.renewalAt(s.recheckMin, now), now.Add(s.recheckMin)
	}
	a.wake = s.nextWake(s.presence(now), now)
	return a
}

// deny remembers the denial. A session that was running has a ticket out there, which must not revive it; but a denial
// that is only the outage policy's word says nothing about the viewer, and who lost his place may get it back.
func (s *session) deny(d backends.Decision, now time.Time) action {
	bury := s.ran && d.Source.Asked() && d.Source != backends.FromLimit
	s.phase, s.decision = denied, d
	s.expires = now.Add(s.denyFor)
	s.until = s.expires
	return action{publish: true, bury: bury, wake: s.expires}
}

// overdue answers the waiting viewer with what the outage policy says. The check goes on, and its answer counts.
func (s *session) overdue(e answerOverdue, now time.Time) action {
	if s.phase != opening {
		return action{}
	}
	switch {
	case s.claiming && !s.hasFacts && s.ticketHolds(now):
		return s.believeTicket(now) // the store is late; were it known to be away, nobody would have waited for it
	case e.err != nil:
		return s.comeBack(e.err, now)
	case e.instead.Verdict == backends.Allowed:
		s.phase, s.ran, s.decision = allowed, true, e.instead
		s.expires, s.until = s.renewalAt(s.recheckMin, now), now.Add(s.recheckMin)
		return action{publish: true, save: true, wake: s.nextWake(now, now)} // the lease is the check's
	case e.instead.Verdict == backends.Denied:
		s.phase, s.decision = denied, e.instead
		s.expires = now.Add(s.denyFor)
		return action{publish: true, wake: s.expires}
	default:
		return s.comeBack(errNoVerdict, now)
	}
}
