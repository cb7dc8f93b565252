package session

import (
	"time"

	"usher/backends"
)

// This file is the part of a session's logic that deals with the store: what other nodes know, and who asks.

// leeway is how much later than the node that asked last the others look whether it has asked again: so long that its
// answer is there mostly, and short enough that nobody watches on an old one for long if that node is gone.
const leeway = time.Second

func (s *State) onLeaseAnswer(e LeaseAnswered, kind LookupKind, now time.Time) Action {
	s.lookupInFlight = false
	a := Action{}
	switch {
	case s.Phase == Opening && kind == LookupForOpening:
		a = s.onFirstLookup(e, now)
	case s.Phase != Allowed && s.Phase != Rechecking:
	case kind != LookupForOpening || s.Decision.Source == backends.FromTicket: // it was let in while the store did not answer
		a = s.onLookup(e, kind, now)
	}
	if a.StartCheck {
		s.LeaseRevision = e.Revision
		return a
	}
	a.Revision = s.Revision
	if e.Revision != 0 { // it is somebody else's turn
		own := s.LeaseRevision
		s.LeaseRevision = e.Revision
		a = s.releaseLease(a)
		s.LeaseRevision = own
	}
	a.ReturnSlot = kind == LookupForRecheck
	return a
}

// onFirstLookup goes on from what the store knew, or starts afresh.
func (s *State) onFirstLookup(e LeaseAnswered, now time.Time) Action {
	if s.checkInFlight {
		return Action{}
	}
	r := e.Record
	if e.Found {
		switch {
		case now.Before(r.KickedUntil):
			return s.denyLocally(Kicked(), now)
		case s.isTicketRevoked(r):
			return s.refuse("the ticket's session was denied", ClosedDenied)
		case e.Refused != nil:
			return s.denyLocally(*e.Refused, now)
		}
		s.HasCredentials = s.HasCredentials || r.Request != nil
		if a, done := s.adopt(r, now); done {
			return a
		}
	}
	if !s.WasAllowed && s.PresentedTicket.Opened.After(r.RevokedBefore) {
		// One session has one ticket for life, also if nobody remembers it.
		s.Opened, s.KeyID = s.PresentedTicket.Opened, s.PresentedTicket.KeyID
	}
	if !s.Opened.After(r.RevokedBefore) {
		s.Opened = r.RevokedBefore.Add(time.Second) // or the new ticket would be as good as the old one
	}
	if s.HasCredentials && !s.ticketIsBetter(now) {
		s.checkInFlight = true
		return Action{StartCheck: true}
	}
	return s.admitByTicket(now)
}

// Kicked is what a viewer is told whose session an operator ended.
func Kicked() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator, Reason: "ended by an operator"}
}

// denyLocally refuses a viewer on whom no backend needs to decide. It is remembered here alone: the store knows already.
func (s *State) denyLocally(d backends.Decision, now time.Time) Action {
	s.Phase, s.Decision = denied, d
	s.Expires = now.Add(s.DenyFor)
	s.ValidUntil = s.Expires
	return Action{Publish: true, WakeAt: s.Expires}
}

// isTicketRevoked reports whether the presented ticket belongs to a session that was denied while it ran. Whoever brings
// credentials is asked about instead.
func (s *State) isTicketRevoked(r Record) bool {
	return !s.PresentedTicket.IsZero() && !r.RevokedBefore.IsZero() && !s.PresentedTicket.Opened.After(r.RevokedBefore) && !s.HasCredentials
}

// adopt takes over a session that lived before, here or on another node. It is not done when somebody has to be asked.
func (s *State) adopt(r Record, now time.Time) (a Action, done bool) {
	switch {
	case s.Shared && s.HasCredentials && r.Decision.Verdict == backends.Denied && r.Decision.Source.IsAuthoritative() && now.Before(r.Expires):
		s.Phase, s.Decision, s.Revision = denied, r.Decision, r.Revision
		s.Expires, s.ValidUntil = r.Expires, r.Expires
		return Action{Publish: true, WakeAt: s.Expires}, true
	case r.Decision.Verdict != backends.Allowed || !r.Opened.After(r.RevokedBefore):
		return Action{}, false
	}
	s.Opened, s.KeyID, s.WasAllowed = r.Opened, r.KeyID, true
	s.take(r)
	s.CheckNumber++
	holds, late := now.Before(s.ValidUntil), false
	switch {
	case holds:
	case s.tokenIsSpent(now) && s.ExpiredToken == backends.KeepOnExpiredToken:
		holds, s.Expires = true, s.renewalAt(s.Clamped(0), now)
	case s.Shared && s.HasCredentials && r.Decision.Source.IsAuthoritative() && now.Before(s.ValidUntil.Add(s.RecheckMin)):
		holds, late = true, true // another node is about to renew it, or this one is
	}
	if !holds {
		return Action{}, false
	}
	s.Phase = Allowed
	a = Action{Publish: true}
	switch {
	case late:
		s.Phase, a.Enqueue = Rechecking, PriorityOverdue
	case !s.Decision.Source.IsAuthoritative() && s.HasCredentials && !s.tokenIsSpent(now):
		s.Phase, a.Enqueue = Rechecking, PriorityUnverified
	}
	a.WakeAt = s.nextWake(now, now)
	return a, true
}

// take stands on another node's decision from now on. That node renews it; this one looks a little later.
func (s *State) take(r Record) {
	s.Decision, s.Revision, s.CheckNumber = r.Decision, r.Revision, r.CheckNumber
	s.checkedHere, s.ValidUntil, s.Expires = false, r.Expires, r.Expires
	if s.Shared {
		s.Expires = r.Expires.Add(leeway)
	}
}

// onLookup is for a session that runs: another node may have asked, or refused it.
func (s *State) onLookup(e LeaseAnswered, kind LookupKind, now time.Time) Action {
	r := e.Record
	newer := e.Found && r.Revision > s.Revision && r.Decision.Source.IsAuthoritative() && now.Before(r.Expires) &&
		r.Decision.Verdict != backends.Pending
	switch {
	case e.Found && now.Before(r.KickedUntil):
		return s.denyLocally(Kicked(), now)
	case e.Found && !r.RevokedBefore.IsZero() && !s.Opened.After(r.RevokedBefore):
		return s.denyLocally(refusalOf(r), now)
	case e.Refused != nil:
		return s.denyLocally(*e.Refused, now)
	case newer && r.Decision.Verdict == backends.Denied:
		return s.denyLocally(r.Decision, now)
	case newer:
		s.take(r)
		s.HasCredentials = s.HasCredentials || r.Request != nil
		s.Phase = Allowed
		return Action{Publish: true, WakeAt: s.nextWake(s.presence(now), now)}
	case kind == LookupForRecheck:
		return s.useTurn(now)
	case !s.HasCredentials && r.Request != nil:
		return s.onCredentialsArrived(now)
	case e.HeldElsewhere:
		return Action{WakeAt: now.Add(leeway)}
	}
	s.checkedHere = true
	a := s.renewNow(e.TimerFired, now)
	a.Save = a.Save || !e.Found && !e.Away // the store has lost it
	return a
}

// refusalOf is why the session of a buried ticket was refused, as far as the record tells.
func refusalOf(r Record) backends.Decision {
	if r.Decision.Verdict == backends.Denied {
		return r.Decision
	}
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit, Reason: "refused on another node"}
}

// useTurn asks, unless the token's life ended meanwhile.
func (s *State) useTurn(now time.Time) Action {
	if s.Phase != Rechecking {
		return Action{}
	}
	if s.tokenIsSpent(now) {
		return s.onSpentToken(now, now)
	}
	s.CheckNumber++
	s.checkInFlight = true
	return Action{StartCheck: true}
}

// ticketIsBetter reports whether asking about the viewer could only bring a false No, while his ticket speaks for him.
func (s *State) ticketIsBetter(now time.Time) bool {
	return s.ticketHolds(now) && s.Opened.Equal(s.PresentedTicket.Opened) &&
		s.tokenIsSpent(now) && s.ExpiredToken == backends.KeepOnExpiredToken
}

// ticketHolds reports whether the presented ticket may speak for a session that nobody remembers.
func (s *State) ticketHolds(now time.Time) bool {
	return !s.PresentedTicket.IsZero() && !s.ReviveDenied && now.Sub(s.PresentedTicket.Opened) <= s.ReviveFor
}

// admitByTicket admits a session that nobody remembers on the word of its ticket, if that is young enough.
func (s *State) admitByTicket(now time.Time) Action {
	if !s.ticketHolds(now) {
		return s.refuse("nobody remembers the ticket's session", closedUnknownTicket)
	}
	s.Phase, s.WasAllowed = Allowed, true
	s.Decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
	s.Expires = s.renewalAt(s.Clamped(0), now)
	s.ValidUntil = s.Expires
	return Action{Publish: true, Save: true, WakeAt: s.nextWake(now, now)}
}

// refuse denies the waiting requests and keeps no memory of it, so that credentials can open the session afresh.
func (s *State) refuse(reason string, e CloseReason) Action {
	s.Phase = closed
	s.Decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromTicket, Reason: reason}
	return Action{Publish: true, Close: e}
}

// onDecisionOutdated: what this node was told is older than what another one was. That counts, and is looked up.
func (s *State) onDecisionOutdated(now time.Time) Action {
	if s.checkInFlight || s.lookupInFlight || s.Phase != Allowed && s.Phase != denied {
		return Action{} // it is about to know, or knows nothing
	}
	s.checkedHere = false
	s.Expires = now.Add(leeway)
	return Action{WakeAt: s.Expires}
}

// onMustReload: revocations may have been missed.
func (s *State) onMustReload() Action {
	if s.checkInFlight || s.lookupInFlight || s.Phase != Allowed && s.Phase != Rechecking {
		return Action{}
	}
	s.lookupInFlight = true
	return Action{Lookup: lookupOnly}
}

// onRevoked refuses a session that has to go. What was on its way for it does not matter any more.
func (s *State) onRevoked(e Revoked, now time.Time) Action {
	switch {
	case !e.Opened.IsZero() && s.Opened.After(e.Opened):
		return Action{} // it was opened afresh since
	case e.Kind == RevokedDenied && s.Phase == denied:
		return Action{} // this node's own word
	}
	s.CheckNumber++
	s.checkInFlight = false
	a := s.denyLocally(e.Decision, now)
	if e.Kind == RevokedSuperseded {
		// No memory: his viewer may zap back at any time.
		s.Phase = closed
		a.WakeAt, a.Close = time.Time{}, closedSuperseded
	}
	return s.releaseLease(a)
}

// onUnbanned forgets the refusal of somebody who is not banned any more.
func (s *State) onUnbanned() Action {
	if s.Phase == denied && s.Decision.Source == backends.FromBan {
		return s.end(closedForgotten)
	}
	return Action{}
}
