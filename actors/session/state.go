package session

import (
	"encoding/binary"
	"math"
	"time"

	"usher/backends"
)

// phase is what holds for a session's viewer and what is in flight for the session: at most one lookup or check.
type phase uint8

// The phases. A viewer waits while opening, watches while allowed or in a re-check, and is refused otherwise.
const (
	openingNew         phase = iota // nothing has happened yet
	openingLeasing                  // the store is asked for the session or a lease
	openingChecking                 // the backend is asked
	allowedFresh                    // nothing is in flight; the timer renews the decision
	allowedLooking                  // the store is asked for a newer decision
	allowedChecking                 // admitted before the opening check has ended, which continues
	recheckQueued                   // waits for a re-check slot
	recheckLooking                  // waits for a slot, and the store is asked for a newer decision
	recheckSlotMissed               // the slot came during that lookup and was returned; queued again when the lookup ends
	recheckLeasing                  // has a slot, and the store is asked for the lease
	recheckChecking                 // has used its slot, and the backend is asked
	deniedRemembered                // a player's retries are refused without a check
	deniedChecking                  // the same, and the backend is asked
	retryLater                      // no verdict; the viewer may retry
	retryLaterChecking              // the same, and the backend is asked
	closed                          // over
)

func (p phase) String() string {
	return [...]string{
		"opening-new", "opening-leasing", "opening-checking",
		"allowed-fresh", "allowed-looking", "allowed-checking",
		"recheck-queued", "recheck-looking", "recheck-slot-missed", "recheck-leasing", "recheck-checking",
		"denied-remembered", "denied-checking", "retry-later", "retry-later-checking", "closed",
	}[p]
}

func (p phase) isOpening() bool { return p <= openingChecking }

func (p phase) isAllowed() bool { return p >= allowedFresh && p <= recheckChecking }

func (p phase) isDenied() bool { return p == deniedRemembered || p == deniedChecking }

func (p phase) hasCheckInFlight() bool {
	switch p {
	case openingChecking, allowedChecking, recheckChecking, deniedChecking, retryLaterChecking:
		return true
	default:
		return false
	}
}

// State is the state of one viewer's session: a flat value without times or pointers of its own. The strings of its key and its
// decision share their bytes with what was published. Only Step changes it.
type State struct {
	Flat
	ID backends.SessionID
	// Expires is when the decision is to be renewed, or forgotten. Zero: an outage keeps a denial longer than it would be remembered.
	Expires time.Duration
	// Decision is what holds for the viewer.
	Decision backends.Decision
}

// Flat is a [State] without what is kept once where requests read it. Durations count from Policy.Start.
type Flat struct {
	phase phase
	// HasCredentials reports that the viewer's credentials are known, so that a backend can be asked.
	HasCredentials bool
	// WasAllowed reports that the session was allowed once, so that a ticket for it exists.
	WasAllowed bool
	// checkedHere reports that this node made the newest check. Other nodes look first whether it has renewed the decision.
	checkedHere bool
	// CheckNumber is the number of the newest check.
	CheckNumber int32
	// opened is the session's opening in Unix seconds, as its ticket says.
	opened uint32
	// rootOpened is when the root of a sibling was opened, in Unix seconds: its ticket and its token are as old. Zero: the
	// session is no sibling.
	rootOpened uint32
	// KeyID is the id of the key that signs its ticket.
	KeyID string
	// extraLifetime is OpenRequest.ExtraLifetime, in milliseconds.
	extraLifetime int32
	// HasBegun reports that NewState made it.
	HasBegun bool
	// IsRootAllowed and isRootDenied report what was known of a sibling's root when the sibling opened.
	IsRootAllowed, isRootDenied bool
	// mustLookAgain reports that another look-up must follow the one in flight.
	mustLookAgain bool
	// lastSeen is when the viewer was last seen, as the timer reported last; notSeen: not yet.
	lastSeen time.Duration
	// Revision orders the decision over all nodes; see Record.Revision.
	Revision uint64
	// LeaseRevision is the revision of the lease under which the check in flight runs; zero: it has none.
	LeaseRevision uint64
	// ValidUntil is when the decision's validity ends.
	ValidUntil time.Duration
}

// notSeen is the lastSeen of a session whose timer has not fired.
const notSeen time.Duration = math.MinInt64

// Origin is what a session begins with.
type Origin struct {
	ID             backends.SessionID
	Opened         time.Time
	KeyID          string
	HasCredentials bool
	ExtraLifetime  time.Duration
	// RootOpened is when the root of a sibling was opened; zero: the session is no sibling.
	RootOpened time.Time
	// CheckNumber is the number of the newest check that the session has made before, so that its answer is dropped.
	CheckNumber int
	// Denial holds until the backend answers; nil: the viewer was not denied before.
	Denial *backends.Decision
}

// NewState returns the state of a session before its first event.
func NewState(o Origin) State {
	s := State{ID: o.ID, Flat: Flat{
		HasBegun: true, opened: uint32(o.Opened.Unix()), KeyID: o.KeyID, HasCredentials: o.HasCredentials,
		extraLifetime: int32(min(o.ExtraLifetime.Milliseconds(), math.MaxInt32)),
		lastSeen:      notSeen, CheckNumber: int32(o.CheckNumber),
	}}
	if !o.RootOpened.IsZero() {
		s.rootOpened = uint32(o.RootOpened.Unix())
	}
	if o.Denial != nil {
		s.Decision = *o.Denial
	}
	return s
}

// Step applies one event at the given time and returns what must be done. It does not allocate.
func (s *State) Step(p *Policy, event Event, now time.Time) Action {
	at := step{State: s, Policy: p, clock: now, now: p.since(now)}
	if s.phase == closed {
		return at.afterClose(event)
	}
	return at.apply(event)
}

// IsOpening reports whether a viewer waits for the first decision.
func (s *State) IsOpening() bool { return s.phase.isOpening() }

// IsAllowed reports whether the viewer watches.
func (s *State) IsAllowed() bool { return s.phase.isAllowed() }

// Opened returns when the session was opened, to the second.
func (s *State) Opened() time.Time { return time.Unix(int64(s.opened), 0).UTC() }

// isSibling reports whether the session was opened by the ticket of another one.
func (s *State) isSibling() bool { return s.rootOpened != 0 }

// opensDenied reports whether the session opens with a denial of before, which holds until there is an answer.
func (s *State) opensDenied() bool {
	return s.phase.isOpening() && s.Decision.Verdict == backends.Denied
}

// CurrentDecision returns the decision on which a check may fall back; pending without one.
func (s *State) CurrentDecision() backends.Decision {
	if s.WasAllowed || s.phase.isDenied() || s.opensDenied() {
		return s.Decision
	}
	return backends.Decision{}
}

// step is one call of State.Step: the state, and what is passed beside it.
type step struct {
	*State
	*Policy
	clock time.Time     // now
	now   time.Duration // the same since Policy.Start
}

// apply handles the event. It names each event rather than call the interface's method, so that no caller's event escapes to
// the heap.
func (s step) apply(event Event) Action {
	switch e := event.(type) {
	case OpenRequested:
		return e.apply(s)
	case *LeaseAnswered:
		return e.apply(s)
	case *BackendAnswered:
		return e.apply(s)
	case WaitExpired:
		return e.apply(s)
	case TimerFired:
		return e.apply(s)
	case RecheckGranted:
		return e.apply(s)
	default:
		return s.applyNotice(event)
	}
}

// applyNotice handles an event that the session did not wait for.
func (s step) applyNotice(event Event) Action {
	switch e := event.(type) {
	case CredentialsArrived:
		return e.apply(s)
	case DecisionOutdated:
		return e.apply(s)
	case LostInStore:
		return e.apply(s)
	case MustReload:
		return e.apply(s)
	case Revoked:
		return e.apply(s)
	case Forgotten:
		return e.apply(s)
	case Restored:
		return e.apply(s)
	default:
		return Action{}
	}
}

// end closes the session. It keeps neither a slot nor a lease.
func (s step) end(reason CloseReason) Action {
	a := Action{Close: reason, ReturnSlot: s.phase == recheckLeasing}
	s.phase = closed
	if s.LeaseRevision != 0 {
		a = s.releaseLease(a)
	}
	return a
}

// afterClose returns what is given to a session that has closed.
func (s step) afterClose(event Event) Action {
	switch e := event.(type) {
	case RecheckGranted:
		return Action{ReturnSlot: true}
	case *LeaseAnswered:
		if e.Revision != 0 {
			return s.withRevision(Action{}, e.Revision)
		}
	}
	return Action{}
}

// releaseLease releases the lease of the check in flight, with the decision that a saves or without one.
func (s step) releaseLease(a Action) Action {
	lease := s.LeaseRevision
	s.LeaseRevision = 0
	return s.withRevision(a, lease)
}

// withRevision writes under the lease, which ends with that write; zero: there is none.
func (s step) withRevision(a Action, lease uint64) Action {
	a.Revision = s.Revision
	if lease != 0 {
		a.Revision, a.ReleaseLease = lease, !a.Save && !a.RevokeTicket
	}
	return a
}

// tokenIsSpent reports whether the viewer's token has outlived its life, so that the backend no longer knows it.
func (s step) tokenIsSpent() bool { return s.tokenIsSpentIn(0) }

func (s step) tokenIsSpentIn(d time.Duration) bool {
	issued := s.Opened()
	if s.isSibling() {
		issued = time.Unix(int64(s.rootOpened), 0)
	}
	return s.TokenLife > 0 && s.clock.Add(d).Sub(issued) > s.TokenLife
}

// renewalAt returns a time a little before the validity is over. How much earlier differs between sessions and checks, so
// that viewers who came at once are not checked at once. It is derived, not drawn, so that Step stays pure.
func (s step) renewalAt(validity time.Duration) time.Duration {
	spread := binary.LittleEndian.Uint32(s.ID[12:]) ^ uint32(s.CheckNumber)*0x9E3779B9
	early := s.Jitter * float64(spread) / (1 << 32)
	return s.now + validity - time.Duration(early*float64(validity))
}

// nextWake returns when the timer must fire next: at the renewal, or when the viewer counts as gone. A lookup or check in
// flight wakes the session itself.
func (s step) nextWake(lastSeen time.Duration) time.Time {
	wake := lastSeen + s.idleAfter()
	switch s.phase {
	case allowedFresh:
		wake = min(wake, s.Expires)
	case recheckQueued:
		switch {
		case s.ReviveDenied:
			wake = min(wake, s.policyDue()) // an outage that begins meanwhile would have it end
		case s.Shared && !s.Decision.Source.IsAuthoritative():
			// This node cannot ask, but another one may have: seldom, for in an outage of the backend itself none has.
			wake = min(wake, s.now+s.Clamped(0))
		}
	}
	return s.at(max(wake, s.now))
}

// policyDue returns when the outage policy is to be asked about a queued session that it may deny: when the validity is over, and from
// then on as often as answers may be renewed.
func (s step) policyDue() time.Duration {
	if s.now < s.ValidUntil {
		return s.ValidUntil
	}
	return s.now + s.RecheckMin
}

// seen returns when the viewer may have been seen last. An edge's viewer is seen only when the timer says so, or they would
// be renewed for one validity more than they watch.
func (s step) seen() time.Duration {
	if s.extraLifetime > 0 && s.lastSeen != notSeen {
		return s.lastSeen
	}
	return s.now
}

// idleAfter returns the silence after which the viewer is gone.
func (s step) idleAfter() time.Duration {
	if s.extraLifetime == 0 {
		return s.IdleTimeout
	}
	return max(s.IdleTimeout, s.Clamped(s.Decision.ValidFor)+time.Duration(s.extraLifetime)*time.Millisecond)
}
