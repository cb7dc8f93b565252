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
	// recordLoaded is what the store knew of the session.
	recordLoaded struct {
		record backends.Record
		found  bool
	}
	// backendAnswered is the outcome of the check of that number. err means that nobody could say. down is whether the
	// backend is known to be failing.
	backendAnswered struct {
		number   int
		decision backends.Decision
		err      error
		down     bool
	}
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
		health   Health
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
)

func (e ending) String() string {
	return [...]string{"", "idle", "denied", "forgotten", "unknown-ticket"}[e]
}

// action says what must be done about an event. It is a plain value, so that tests compare it with ==.
type action struct {
	lookUp  bool      // read the store
	ask     bool      // start the check of the state's newest number
	queue   lane      // wait for a turn to re-check
	publish bool      // requests see the decision from now on
	bury    bool      // refuse this session's ticket for as long as it could be revived
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
}

// session is the state of one viewer's session. Only step changes it.
type session struct {
	*rules
	id       backends.SessionID
	phase    phase
	asking   bool // a check is on its way
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
	expires   time.Time // when decision is to be renewed, or a memory is over
}

// step applies one event at the given time and says what must be done about it.
func (s *session) step(event any, now time.Time) action {
	if s.phase == closed {
		return action{}
	}
	switch e := event.(type) {
	case opened:
		return action{lookUp: s.phase == opening}
	case recordLoaded:
		return s.recordLoaded(e, now)
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
	default:
		return action{}
	}
}

// recordLoaded goes on from what the store knew, or starts afresh.
func (s *session) recordLoaded(e recordLoaded, now time.Time) action {
	if s.phase != opening || s.asking {
		return action{}
	}
	if e.found {
		if s.isBuried(e.record) {
			return s.refuse("the ticket's session was denied", endedDenied)
		}
		s.hasFacts = s.hasFacts || e.record.Facts != nil
		if a, done := s.adopt(e.record, now); done {
			return a
		}
	}
	if !s.ran && s.presented.Opened.After(e.record.Buried) {
		// One session has one ticket for life, also if nobody remembers it.
		s.opened, s.key = s.presented.Opened, s.presented.Key
	}
	if s.hasFacts && !s.ticketIsBetter(now) {
		s.asking = true
		return action{ask: true}
	}
	return s.believeTicket(now)
}

// isBuried reports whether the presented ticket belongs to a session that was denied while it ran. Whoever brings
// credentials is asked about instead.
func (s *session) isBuried(r backends.Record) bool {
	return !s.presented.IsZero() && !r.Buried.IsZero() && !s.presented.Opened.After(r.Buried) && !s.hasFacts
}

// adopt takes over a session that lived before, here or on another node. It is not done when somebody has to be asked.
func (s *session) adopt(r backends.Record, now time.Time) (a action, done bool) {
	if r.Decision.Verdict != backends.Allowed || !r.Opened.After(r.Buried) {
		return action{}, false
	}
	s.opened, s.key, s.check = r.Opened, r.Key, r.Check+1
	s.decision, s.expires, s.ran = r.Decision, r.Expires, true
	holds := now.Before(s.expires)
	if !holds && s.tokenIsSpent(now) && s.expiredToken == KeepOnExpiredToken {
		holds, s.expires = true, s.renewalAt(s.clamped(0), now)
	}
	if !holds {
		return action{}, false
	}
	s.phase = allowed
	a = action{publish: true, wake: s.nextWake(now, now)}
	if !s.decision.Source.Asked() && s.hasFacts && !s.tokenIsSpent(now) {
		s.phase, a.queue = rechecking, stopgapLane
	}
	return a, true
}

// ticketIsBetter reports whether asking about the viewer could only bring a false No, while his ticket speaks for him.
func (s *session) ticketIsBetter(now time.Time) bool {
	return s.ticketHolds(now) && s.opened.Equal(s.presented.Opened) &&
		s.tokenIsSpent(now) && s.expiredToken == KeepOnExpiredToken
}

// ticketHolds reports whether the presented ticket may speak for a session that nobody remembers.
func (s *session) ticketHolds(now time.Time) bool {
	return !s.presented.IsZero() && !s.reviveDenied && now.Sub(s.presented.Opened) <= s.reviveFor
}

// believeTicket admits a session that nobody remembers on the word of its ticket, if that is young enough.
func (s *session) believeTicket(now time.Time) action {
	if !s.ticketHolds(now) {
		return s.refuse("nobody remembers the ticket's session", endedUnknown)
	}
	s.phase, s.ran = allowed, true
	s.decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
	s.expires = s.renewalAt(s.clamped(0), now)
	return action{publish: true, wake: s.nextWake(now, now)}
}

// refuse denies the waiting requests and keeps no memory of it, so that credentials can open the session afresh.
func (s *session) refuse(reason string, e ending) action {
	s.phase = closed
	s.decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromTicket, Reason: reason}
	return action{publish: true, ending: e}
}

// answered takes the outcome of a check: the newest one's however late.
func (s *session) answered(e backendAnswered, now time.Time) action {
	if e.number != s.check || !s.asking {
		return action{}
	}
	s.asking = false
	switch {
	case e.err != nil:
		return s.unanswered(e.err, now)
	case e.decision.Verdict == backends.Allowed:
		return s.allow(e.decision, e.down, now)
	case e.decision.Verdict == backends.Denied:
		return s.deny(e.decision, now)
	default:
		return s.unanswered(errNoVerdict, now)
	}
}

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
		s.expires = s.renewalAt(s.clamped(d.ValidFor), now)
	case down && !s.tokenIsSpentAt(now.Add(s.recheckMin)):
		s.phase, a.queue = rechecking, laneOf(d.Source)
		s.expires = now
	default:
		s.expires = s.renewalAt(s.recheckMin, now)
	}
	a.wake = s.nextWake(s.presence(now), now)
	return a
}

// deny remembers the denial. A session that was running has a ticket out there, which must not revive it; but a denial
// that is only the outage policy's word says nothing about the viewer.
func (s *session) deny(d backends.Decision, now time.Time) action {
	bury := s.ran && d.Source.Asked()
	s.phase, s.decision = denied, d
	s.expires = now.Add(s.denyFor)
	return action{publish: true, bury: bury, wake: s.expires}
}

// overdue answers the waiting viewer with what the outage policy says. The check goes on, and its answer counts.
func (s *session) overdue(e answerOverdue, now time.Time) action {
	if s.phase != opening {
		return action{}
	}
	switch {
	case e.err != nil:
		return s.comeBack(e.err, now)
	case e.instead.Verdict == backends.Allowed:
		s.phase, s.ran, s.decision = allowed, true, e.instead
		s.expires = s.renewalAt(s.recheckMin, now)
		return action{publish: true, wake: s.nextWake(now, now)}
	case e.instead.Verdict == backends.Denied:
		s.phase, s.decision = denied, e.instead
		s.expires = now.Add(s.denyFor)
		return action{publish: true, wake: s.expires}
	default:
		return s.comeBack(errNoVerdict, now)
	}
}
