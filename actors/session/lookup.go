package session

import (
	"cmp"
	"time"

	"usher/backends"
)

// This file handles what the store knows: other nodes' decisions, and the lease of a check.

// peerRenewDelay is how long other nodes wait after a decision expires before they check whether the node that renewed it
// last has done so again. Its answer is mostly there by then; if that node is gone, no viewer watches for long on an old one.
const peerRenewDelay = time.Second

// apply looks the session up.
func (e OpenRequested) apply(s step) Action {
	isReopened := s.phase == deniedRemembered && !s.WasAllowed && !e.IsRepeated && s.sparesTicket(&s.Decision, s.Opened(), e.Ticket)
	if s.phase != openingNew && !isReopened {
		return Action{Publish: !e.Ticket.IsZero() && !s.phase.isOpening()} // for the request that waits
	}
	if isReopened {
		s.CheckNumber++
	}
	s.phase = openingLeasing
	return Action{Lookup: LookupForOpening}
}

// forgetSpared forgets the denial with which the session opens, if that says nothing of the ticket. Only the look-up tells whether the
// ticket was revoked.
func (s step) forgetSpared(e *LeaseAnswered) {
	if s.opensDenied() && !e.IsUnavailable && e.Ticket.Opened.After(e.Record.RevokedBefore) && s.sparesTicket(&s.Decision, e.Denied, e.Ticket) {
		s.Decision = backends.Decision{}
	}
}

// isUntold reports that neither the store nor the backend can say now whether the ticket holds. A session that opens with a denial does not
// become as old as such a ticket, or the denial would concern it from then on.
func (e *LeaseAnswered) isUntold() bool {
	return e.IsUnavailable && e.Timer.Breaker != backends.BreakerClosed
}

// passOverDenial reports whether the record denies an opening that was later than the ticket's, and says nothing of that one. Then this
// node's own decision may take the denial's place.
func (s step) passOverDenial(t Ticket, r Record) bool {
	isSpared := r.Decision.Verdict == backends.Denied && t.Opened.After(r.RevokedBefore) && s.sparesTicket(&r.Decision, r.Opened, t)
	if isSpared {
		s.Revision = max(s.Revision, r.Revision)
	}
	return isSpared
}

// sparesTicket reports whether the denial of an opening says nothing of a ticket that is older: the backend has forgotten the token since,
// or judged it as of that opening. Then it judges again, as of the ticket.
func (s step) sparesTicket(denial *backends.Decision, opened time.Time, t Ticket) bool {
	switch {
	case !opened.After(t.Opened):
		return false
	case denial.Source == backends.FromBackend:
		return s.outlivesToken(t)
	default:
		return denial.Source == backends.FromLocal && s.TokenLife == 0 && !s.isSibling() && s.tellsOpening(t)
	}
}

// outlivesToken reports whether a ticket admits a session whose token its backend has forgotten since, so that its No says
// nothing about the viewer. A player shows that token again after the node has lost the session.
func (s step) outlivesToken(t Ticket) bool {
	return !s.isSibling() && s.ticketHolds(t) && s.TokenLife > 0 && s.clock.Sub(t.Opened) > s.TokenLife &&
		s.ExpiredToken == keepOnExpiredToken
}

// apply takes the answer to the lookup in flight. Of any other answer only the lease is released.
func (e *LeaseAnswered) apply(s step) Action {
	var a Action
	hasSlot := false
	s.learnRoot(e)
	switch {
	case s.phase == openingLeasing && e.Kind == LookupForOpening:
		a = s.onFirstLookup(e)
	case s.phase == recheckLeasing && e.Kind == LookupForRecheck:
		a, hasSlot = s.onLease(e), true
	case s.isLooking() && e.Kind != LookupForRecheck:
		a = s.onLookup(e)
	}
	if a.StartCheck {
		s.LeaseRevision = e.Revision
		return a
	}
	a.ReturnSlot = hasSlot
	return s.withRevision(a, e.Revision)
}

// learnRoot keeps what the answer says of a sibling's root.
func (s step) learnRoot(e *LeaseAnswered) {
	s.IsRootAllowed, s.isRootDenied = s.IsRootAllowed || e.IsRootAllowed, e.IsRootDenied || s.isRootDenied && !e.IsRootAllowed
	if s.phase == openingLeasing && !s.opensDenied() {
		s.Decision = e.Root
	}
}

func (s step) isLooking() bool {
	return s.phase == allowedLooking || s.phase == recheckLooking || s.phase == recheckSlotMissed
}

// onFirstLookup continues the session that the store knows, or opens a new one.
func (s step) onFirstLookup(e *LeaseAnswered) Action {
	if a, isOver := s.endOpening(e); isOver {
		return a
	}
	r := e.Record
	s.HasCredentials = s.HasCredentials || r.Request != nil || e.HasRootFacts
	s.forgetSpared(e)
	if e.Found && !s.passOverDenial(e.Ticket, r) {
		if a, isAdopted := s.adopt(r); isAdopted {
			return a
		}
	}
	s.setOpened(e)
	if s.HasCredentials && (s.opensDenied() || !s.isTicketBetter(e.Ticket)) {
		s.phase = openingChecking
		return Action{StartCheck: true}
	}
	if e.MayBeBanned && s.ticketHolds(e.Ticket) {
		return s.retryLater(retryLater, awaitsBans)
	}
	return s.admitByTicket(allowedFresh, e.Ticket)
}

// endOpening ends an opening whatever the record's decision is.
func (s step) endOpening(e *LeaseAnswered) (a Action, isOver bool) {
	switch {
	case e.Refused != nil:
		return s.denyLocally(s.refusalOf(e)), true
	case e.Found && s.isTicketRevoked(e.Ticket, e.Record):
		return s.refuse(rootWasDenied, closedDenied), true
	case e.Overload != "":
		return s.retryLater(retryLater, e.Overload), true
	default:
		return Action{}, false
	}
}

// rootWasDenied is why a ticket admits nobody any more.
const rootWasDenied = "the ticket's session was denied"

// setOpened sets when a session without a usable record was opened. It has one ticket for life, also without a record, so
// the ticket tells, unless it is too old to say anything. A sibling has no ticket of its own.
func (s step) setOpened(e *LeaseAnswered) {
	t, r, isHeld := e.Ticket, e.Record, s.opensDenied() && e.isUntold()
	isOfTicket := !isHeld && t.Opened.After(r.RevokedBefore) && s.tellsOpening(t)
	if !s.isSibling() && !s.WasAllowed && isOfTicket {
		s.opened, s.KeyID = uint32(t.Opened.Unix()), t.KeyID
	}
	if !s.Opened().After(r.RevokedBefore) {
		s.opened = uint32(r.RevokedBefore.Unix() + 1) // or the new ticket would equal the revoked one
	}
}

// awaitsBans is why a viewer of whom only the ticket is known is asked to retry.
const awaitsBans = "redis lost its data and the bans are being restored"

// Kicked returns the decision on a viewer whose session an operator ended, who may give a reason.
func Kicked(reason string) backends.Decision {
	d := backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator, Reason: "ended by an operator"}
	if reason != "" {
		d.Reason += ": " + reason
	}
	return d
}

// adopt continues a session that lived before, here or on another node. It does not where a check is needed.
func (s step) adopt(r Record) (a Action, isAdopted bool) {
	switch {
	case s.Shared && s.HasCredentials && r.Decision.Verdict == backends.Denied && s.isValidAnswer(r):
		s.Revision = r.Revision
		a = s.denyLocally(r.Decision)
		s.Expires = s.endOf(r, s.DenialTTL)
		s.ValidUntil, a.WakeAt = s.Expires, s.at(s.Expires)
		return a, true
	case s.opensDenied() && !s.isValidAnswer(r):
		return Action{}, false // nobody has allowed them since
	case r.Decision.Verdict == backends.Allowed && r.Opened.After(r.RevokedBefore):
		return s.adoptAllowed(r)
	default:
		return Action{}, false
	}
}

// adoptAllowed lets a session go on that was allowed, if its decision is valid or about to be renewed.
func (s step) adoptAllowed(r Record) (a Action, isAdopted bool) {
	newOpened, newKey := s.opened, s.KeyID
	s.opened, s.KeyID, s.WasAllowed = uint32(r.Opened.Unix()), r.KeyID, true
	s.takeDecision(r)
	s.CheckNumber++
	next, a := allowedFresh, Action{Publish: true}
	switch isValid := s.now < s.ValidUntil; {
	case !isValid && s.tokenIsSpent() && s.ExpiredToken == keepOnExpiredToken:
		s.Expires = s.renewalAt(s.Clamped(0))
	case !isValid && s.isBeingRenewed(r):
		next, a.Enqueue = recheckQueued, priorityOf(s.Decision.Source)
	case !isValid:
		if r.IsClosed { // the viewer opens it anew: the answer does not concern the ticket of before
			s.opened, s.KeyID, s.WasAllowed = newOpened, newKey, false
		}
		return Action{}, false
	case !s.Decision.Source.IsAuthoritative() && s.HasCredentials && !s.tokenIsSpent():
		next, a.Enqueue = recheckQueued, PriorityUnverified
	}
	s.phase = next
	a.WakeAt = s.nextWake(s.now)
	return a, true
}

// isValidAnswer reports whether the record's decision is a valid answer.
func (s step) isValidAnswer(r Record) bool {
	return r.Decision.Verdict != backends.Pending && r.Decision.Source.IsAuthoritative() && s.clock.Before(r.Expires)
}

// isBeingRenewed reports whether the record's decision has expired on a viewer who plays: it waits for its re-check on another
// node, for which they need not wait on this one. Of a decision that expired just now this holds though nobody has seen them.
func (s step) isBeingRenewed(r Record) bool {
	switch {
	case !s.Shared, !s.HasCredentials:
		return false
	case s.Decision.Source.IsAuthoritative() && s.now < s.ValidUntil+s.RecheckMin:
		return true
	default:
		return !r.IsClosed && !s.ReviveDenied && !s.tokenIsSpent()
	}
}

// takeDecision makes another node's decision the session's own. That node renews it; this one looks a little later.
func (s step) takeDecision(r Record) {
	s.Decision, s.Revision, s.CheckNumber = r.Decision, r.Revision, int32(r.CheckNumber)
	s.checkedHere, s.ValidUntil = false, s.endOf(r, s.Clamped(r.Decision.ValidFor))
	s.Expires = s.ValidUntil
	if s.Shared {
		s.Expires += peerRenewDelay
	}
}

// endOf returns when a stored decision ends, which holds for so long at most. The store's clock tells how much is left of it, and may
// have been set back since.
func (s step) endOf(r Record, longest time.Duration) time.Duration {
	return min(s.since(r.Expires), s.now+longest)
}

// onLookup takes what the store knows of a session that runs, which waits for a slot again if it has missed one.
func (s step) onLookup(e *LeaseAnswered) Action {
	hasMissedSlot := s.phase == recheckSlotMissed
	s.phase = either(s.phase == allowedLooking, allowedFresh, recheckQueued)
	ticket := s.agreeOnTicket(e)
	a := s.afterLookup(e)
	if s.phase.isAllowed() {
		a.Publish, a.Save = a.Publish || ticket.Publish, a.Save || ticket.Save
	}
	if hasMissedSlot && s.phase == recheckQueued {
		a.Enqueue = priorityOf(s.Decision.Source)
	}
	if s.mustLookAgain && (s.phase == allowedFresh || s.phase == recheckQueued) {
		a.Lookup = s.look().Lookup
	}
	return a
}

func (s step) afterLookup(e *LeaseAnswered) Action {
	if a, isDecided := s.takeNewer(e); isDecided {
		return a
	}
	switch {
	case !s.HasCredentials && (e.Record.Request != nil || e.HasRootFacts):
		return CredentialsArrived{}.apply(s)
	case e.HeldElsewhere:
		return Action{Save: e.isLost(), WakeAt: s.at(s.now + peerRenewDelay)} // the lease may be one that nobody knows of
	}
	s.checkedHere = true
	a := s.renew(e.Timer)
	a.Save = a.Save || e.isLost()
	return a
}

// isLost reports that the store does not know a session that runs.
func (e *LeaseAnswered) isLost() bool { return !e.Found && !e.IsUnavailable }

// onLease checks the session under the lease, unless another node has.
func (s step) onLease(e *LeaseAnswered) Action {
	ticket := s.agreeOnTicket(e)
	a := s.afterLease(e)
	a.Publish = a.Publish || ticket.Publish
	a.Save = a.Save || ticket.Save && s.phase.isAllowed() && !a.StartCheck // a check that follows stores the ticket
	return a
}

func (s step) afterLease(e *LeaseAnswered) Action {
	if a, isDecided := s.takeNewer(e); isDecided {
		return a
	}
	if s.tokenIsSpent() {
		return s.onSpentToken(s.now)
	}
	return s.startRecheck()
}

// agreeOnTicket has nodes that opened a session without seeing each other's openings agree on one ticket: the latest one's,
// whose revocation covers the others; among equal ones that of the greater key id.
func (s step) agreeOnTicket(e *LeaseAnswered) Action {
	r := e.Record
	isRevoked := !r.Opened.After(r.RevokedBefore) || !s.Opened().After(r.RevokedBefore)
	if !e.Found || r.Decision.Verdict != backends.Allowed || isRevoked {
		return Action{}
	}
	order := cmp.Or(r.Opened.Compare(s.Opened()), cmp.Compare(r.KeyID, s.KeyID))
	isTheirs := order > 0
	if isTheirs {
		s.opened, s.KeyID = uint32(r.Opened.Unix()), r.KeyID
	}
	return Action{Publish: isTheirs, Save: order < 0}
}

// takeNewer takes what another node or an operator has decided on a session that runs.
func (s step) takeNewer(e *LeaseAnswered) (a Action, isDecided bool) {
	r := e.Record
	if d, isRefused := s.refusedBy(e); isRefused {
		return s.denyLocally(d), true
	}
	switch isNewer := e.Found && r.Revision > s.Revision && s.isValidAnswer(r); {
	case isNewer && s.passOverDenial(Ticket{Opened: s.Opened()}, r):
		return Action{}, false
	case isNewer && r.Decision.Verdict == backends.Denied:
		return s.denyLocally(r.Decision), true
	case isNewer:
		s.takeDecision(r)
		s.HasCredentials = s.HasCredentials || r.Request != nil || e.HasRootFacts
		s.phase = allowedFresh
		return Action{Publish: true, WakeAt: s.nextWake(s.seen())}, true
	default:
		return Action{}, false
	}
}

// refusedBy returns why a session that runs must end: a ban, a kick, a limit or a revoked ticket.
func (s step) refusedBy(e *LeaseAnswered) (d backends.Decision, isRefused bool) {
	r := e.Record
	switch {
	case e.Refused != nil:
		return s.refusalOf(e), true
	case e.Found && !s.Opened().After(r.RevokedBefore):
		return revocationOf(r), true
	default:
		return backends.Decision{}, false
	}
}

// apply looks soon: another node's answer is newer than this node's.
func (DecisionOutdated) apply(s step) Action {
	if s.phase != allowedFresh && s.phase != deniedRemembered {
		return Action{} // it is about to know, or knows nothing
	}
	s.checkedHere = false
	s.Expires = s.now + peerRenewDelay
	return Action{WakeAt: s.at(s.Expires)}
}

// apply stores the session again.
func (LostInStore) apply(s step) Action {
	return Action{Save: s.phase.isAllowed(), Revision: s.Revision}
}

// apply looks the session up, because a revocation or another ticket may have been missed. The look-up in flight may have been
// answered before that, so that another one follows it.
func (MustReload) apply(s step) Action {
	if s.phase != allowedFresh && s.phase != recheckQueued {
		s.mustLookAgain = s.isLooking()
		return Action{}
	}
	return s.look()
}

// look asks the store for a newer decision.
func (s step) look() Action {
	s.phase, s.mustLookAgain = either(s.phase == allowedFresh, allowedLooking, recheckLooking), false
	return Action{Lookup: LookupOnly}
}
