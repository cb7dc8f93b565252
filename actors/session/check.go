package session

import (
	"errors"
	"time"

	"usher/backends"
)

// This file handles what decides on a session: the backend's answer, and the outage policy in its place.

// ErrPanicked reports that a backend's check panicked.
var ErrPanicked = errors.New("the check panicked")

// noVerdict is the reason of an answer that breaks the backend's contract.
const noVerdict = "the answer was neither allowed nor denied"

// PendingDecision returns the decision of a check that failed. A failure's text may quote a viewer's token, so the reason
// names only its kind.
func PendingDecision(err error) backends.Decision {
	d := backends.Decision{Verdict: backends.Pending, Reason: "the check was given up"}
	failure := backends.AsFailure(err)
	overload, isOverload := errors.AsType[*backends.Overload](err)
	switch {
	case failure != nil:
		d.Reason = "no answer: " + failure.Kind.String()
	case isOverload:
		d.Reason = overload.Error()
	case errors.Is(err, ErrPanicked):
		d.Reason = err.Error()
	}
	return d
}

// apply takes the outcome of the newest check, however late. Older outcomes are dropped.
func (e *BackendAnswered) apply(s step) Action {
	if e.Number != int(s.CheckNumber) || !s.phase.hasCheckInFlight() {
		return Action{}
	}
	s.checkedHere = true
	if e.Decision.Verdict != backends.Pending && s.LeaseRevision != 0 && e.Decision.Source.IsAuthoritative() {
		s.Revision = s.LeaseRevision
	}
	a := s.releaseLease(e.decide(s))
	a.ReleaseLease = a.ReleaseLease && !e.IsSaved // the write that has saved it ends the lease, unless this overtakes it
	return a
}

// decide takes the answer as the session's decision, if it is one.
func (e *BackendAnswered) decide(s step) Action {
	switch d := &e.Decision; {
	case d.Verdict == backends.Allowed && (d.Source.IsAuthoritative() || !s.isHeldDenied()):
		a := s.allow(*d, e.IsBackendDown)
		a.Save = !e.IsSaved
		return a
	case d.Verdict == backends.Denied && !s.outlasts(d):
		a := s.deny(*d)
		a.Save = !e.IsSaved && !a.RevokeTicket && isAnswer(d)
		return a
	default:
		return s.unanswered(e)
	}
}

// isHeldDenied reports whether a backend has denied the viewer before the check in flight, so that only an answer admits them.
func (s step) isHeldDenied() bool {
	return s.opensDenied() || s.phase == deniedChecking && isAnswer(&s.Decision)
}

// outlasts reports whether what was decided before holds on, since the outage policy alone has denied now: an answer that is still valid,
// and a denial.
func (s step) outlasts(d *backends.Decision) bool {
	isValid := s.phase == recheckChecking && s.now < s.ValidUntil
	return !d.Source.IsAuthoritative() && (isValid || s.phase == deniedChecking || s.opensDenied())
}

// isAnswer reports whether a backend has decided. What a ban or a limit denies, that of a ticket's addresses too, may be allowed again at
// any time, and no other node need learn it.
func isAnswer(d *backends.Decision) bool {
	return d.Source == backends.FromBackend || d.Source == backends.FromLocal && d.Reason != backends.ReasonNewAddress
}

// isOfOperator reports whether an operator has decided, by a ban or a kick.
func isOfOperator(d *backends.Decision) bool {
	return d.Source == backends.FromBan || d.Source == backends.FromOperator
}

// allow admits the viewer, or lets them continue. A fallback holds for a short time only; while the backend is down the
// session is queued at once.
func (s step) allow(d backends.Decision, isDown bool) Action {
	s.phase, s.WasAllowed, s.Decision = allowedFresh, true, d
	a := Action{Publish: true}
	switch {
	case d.Source.IsAuthoritative():
		s.Expires, s.ValidUntil = s.renewalAt(s.Clamped(d.ValidFor)), s.now+s.Clamped(d.ValidFor)
	case isDown && !s.tokenIsSpentIn(s.RecheckMin):
		s.phase, a.Enqueue = recheckQueued, priorityOf(d.Source)
		s.Expires, s.ValidUntil = s.now, s.now+s.RecheckMin
	default:
		s.Expires, s.ValidUntil = s.renewalAt(s.RecheckMin), s.now+s.RecheckMin
	}
	a.WakeAt = s.nextWake(s.seen())
	return a
}

// deny remembers the denial. A session that was allowed has a ticket, which must not revive it. A denial by the outage policy
// says nothing about the viewer, a ban may end, and an evicted stream may play again, so they keep the ticket.
func (s step) deny(d backends.Decision) Action {
	a := s.denyLocally(d)
	a.RevokeTicket = s.WasAllowed && isAnswer(&d)
	return a
}

// denyLocally remembers a denial that the store need not learn from this node.
func (s step) denyLocally(d backends.Decision) Action {
	s.phase, s.Decision = deniedRemembered, s.withUser(d)
	s.Expires = s.now + s.denialTTL()
	s.ValidUntil = s.Expires
	return Action{Publish: true, WakeAt: s.at(s.Expires)}
}

// evictionTTL is how long an eviction is remembered at most: its stream may play again at any time, and to ask for that costs no call of
// the backend, but a handful of the store's.
const evictionTTL = 5 * time.Second

// denialTTL returns how long the denial is remembered.
func (s step) denialTTL() time.Duration {
	if s.Decision.Source == backends.FromLimit {
		return min(s.DenialTTL, evictionTTL)
	}
	return s.DenialTTL
}

// withUser has a denial name the user as the decision before it did, unless the denial itself names one. A ban names them by what the
// operator wrote, which is one of their names.
func (s step) withUser(d backends.Decision) backends.Decision {
	isNamed := (d.UserID != "" || d.User != "") && !isOfOperator(&d)
	if before := &s.Decision; !isNamed && (before.UserID != "" || before.User != "") {
		d.UserID, d.User = before.UserID, before.User
	}
	return d
}

// unanswered keeps the decision that holds. A viewer who still waits is asked to retry.
func (s step) unanswered(e *BackendAnswered) Action {
	if s.opensDenied() {
		return s.denyLocally(s.Decision)
	}
	switch s.phase {
	case openingChecking, retryLaterChecking:
		if s.isAdmittedUnanswered(e.IsFailure) {
			return s.admitSibling(allowedFresh)
		}
		return s.retryLater(retryLater, e.Decision.Reason)
	case deniedChecking:
		s.phase, s.Expires = deniedRemembered, min(s.Expires, s.now+s.denialTTL())
		return Action{WakeAt: s.at(max(s.Expires, s.now))}
	case recheckChecking:
		if s.Expires = s.renewalAt(s.RecheckMin); s.now < s.ValidUntil {
			s.Expires = min(s.Expires, s.ValidUntil) // the outage policy may have it end then
		}
	}
	s.phase = allowedFresh
	return Action{WakeAt: s.nextWake(s.seen())}
}

// retryLater asks the viewer to retry soon, because no verdict was reached. One who was denied before stays so.
func (s step) retryLater(next phase, reason string) Action {
	if s.opensDenied() {
		return s.denyLocally(s.Decision)
	}
	if reason == "" {
		reason = noVerdict
	}
	s.phase, s.Decision = next, backends.Decision{Verdict: backends.Pending, Reason: reason}
	s.Expires = s.now + s.RetryAfter
	return Action{Publish: true, WakeAt: s.at(s.Expires)}
}

// apply answers the waiting viewer with the outage policy. What is in flight continues, and a check's answer counts.
func (e WaitExpired) apply(s step) Action {
	if !s.phase.isOpening() {
		return Action{}
	}
	isLooking, isChecking := s.phase == openingLeasing, s.phase == openingChecking
	admitted := either(isChecking, allowedChecking, either(isLooking, allowedLooking, allowedFresh))
	switch {
	case s.opensDenied():
		a := s.denyLocally(s.Decision)
		if isChecking {
			s.phase = deniedChecking
			s.Expires = max(s.Expires, s.now+s.LeaseTTL) // no check takes longer
		}
		return a
	case isLooking && e.MayBeBanned:
		return s.retryLater(retryLater, awaitsBans)
	case isLooking && !s.HasCredentials && s.ticketHolds(e.Ticket):
		return s.admitByTicket(allowedLooking, e.Ticket) // the store is late
	case e.Fallback.Verdict == backends.Allowed:
		return s.admitUnverified(admitted, e.Fallback, s.RecheckMin) // the lease stays with the check
	case e.Fallback.Verdict == backends.Denied:
		a := s.denyLocally(e.Fallback)
		s.phase = either(isChecking, deniedChecking, deniedRemembered)
		return a
	case s.isAdmittedUnanswered(e.IsFailure):
		return s.admitSibling(admitted)
	default:
		return s.retryLater(either(isChecking, retryLaterChecking, retryLater), e.Fallback.Reason)
	}
}

func either(first bool, a, b phase) phase {
	if first {
		return a
	}
	return b
}

// priorityOf returns the queue of a session whose decision has that source.
func priorityOf(s backends.Source) QueuePriority {
	if s == backends.FromFailOpen || s == backends.FromTicket {
		return PriorityUnverified
	}
	return PriorityOverdue
}
