package session

import (
	"time"

	"usher/backends"
)

// This file says what a ticket admits, and who is admitted or refused without an answer.

// isTicketRevoked reports whether the ticket belongs to a session that was denied while it ran. A viewer with credentials is
// checked instead.
func (s step) isTicketRevoked(t Ticket, r Record) bool {
	return !t.IsZero() && !t.Opened.After(r.RevokedBefore) && !s.HasCredentials
}

// isTicketBetter reports whether a check could only bring a false No, while the ticket admits the viewer.
func (s step) isTicketBetter(t Ticket) bool {
	isOfTicket := s.isSibling() || s.Opened().Unix() == t.Opened.Unix()
	return s.ticketHolds(t) && isOfTicket && s.tokenIsSpent() && s.ExpiredToken == keepOnExpiredToken
}

// ticketHolds reports whether the ticket admits a session without a record. The ticket of a root that lives holds for as
// long, and one of a root that was denied admits no sibling.
func (s step) ticketHolds(t Ticket) bool {
	switch {
	case t.IsZero(), s.isRootDenied:
		return false
	case s.IsRootAllowed:
		return true
	default:
		return !s.ReviveDenied && s.tellsOpening(t)
	}
}

// tellsOpening reports whether a ticket is young enough to say when its session was opened, also where it admits nobody by itself.
func (s step) tellsOpening(t Ticket) bool { return s.clock.Sub(t.Opened) <= s.ReviveFor }

// admitByTicket admits a session without a record by its ticket alone.
func (s step) admitByTicket(next phase, t Ticket) Action {
	switch {
	case s.opensDenied(), s.ticketHolds(t):
	case s.isRootDenied:
		return s.refuse(rootWasDenied, closedDenied)
	default:
		return s.refuse("the ticket's session is unknown", closedUnknownTicket)
	}
	return s.admitUnverified(next, s.ticketDecision(), s.Clamped(0))
}

// admitUnverified admits a viewer for a while without an answer. One whom a backend has denied before stays denied.
func (s step) admitUnverified(next phase, d backends.Decision, validity time.Duration) Action {
	if s.opensDenied() {
		return s.denyLocally(s.Decision)
	}
	s.phase, s.WasAllowed, s.Decision = next, true, d
	s.Expires, s.ValidUntil = s.renewalAt(validity), s.now+validity
	return Action{Publish: true, Save: true, WakeAt: s.nextWake(s.now)}
}

// ticketDecision admits a viewer by a ticket alone. A sibling counts against the limit of its root's user.
func (s step) ticketDecision() backends.Decision {
	return backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromTicket,
		UserID: s.Decision.UserID, User: s.Decision.User, MaxSessions: s.Decision.MaxSessions, Unique: s.Decision.Unique,
	}
}

// admitSibling admits a sibling about which nobody answers, because its root may play. It is asked about as soon as that is
// possible.
func (s step) admitSibling(next phase) Action {
	return s.admitUnverified(next, s.ticketDecision(), s.RecheckMin)
}

// isAdmittedUnanswered reports whether a sibling is admitted though the backend has failed.
func (s step) isAdmittedUnanswered(isFailure bool) bool {
	return isFailure && s.isSibling() && s.ticketHolds(Ticket{Opened: time.Unix(int64(s.rootOpened), 0)})
}

// refuse denies the waiting requests and remembers nothing, so that credentials can open the session anew.
func (s step) refuse(reason string, why CloseReason) Action {
	s.phase = closed
	s.Decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromTicket, Reason: reason}
	return Action{Publish: true, Close: why}
}

// refusalOf returns the denial of a viewer who is refused whatever the record says. One of a backend's that holds stays, or the viewer would
// be unknown once the limit or ban is over.
func (s step) refusalOf(e *LeaseAnswered) backends.Decision {
	switch d := &e.Record.Decision; {
	case s.opensDenied():
		return s.Decision
	case d.Verdict == backends.Denied && s.isValidAnswer(e.Record):
		return *d
	default:
		return *e.Refused
	}
}

// revocationOf returns why the session of a revoked ticket was refused, as far as the record tells.
func revocationOf(r Record) backends.Decision {
	if r.Decision.Verdict == backends.Denied {
		return r.Decision
	}
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit, Reason: "refused on another node"}
}
