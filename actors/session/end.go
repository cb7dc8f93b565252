package session

import (
	"time"

	"usher/backends"
)

// This file handles what ends a session from outside, and the panic that it survives.

// apply denies a session that was revoked. What is in flight for it no longer counts.
func (e Revoked) apply(s step) Action {
	if !e.concerns(s) {
		return Action{}
	}
	s.CheckNumber++
	hasSlot, denial := s.phase == recheckLeasing, e.Decision
	if s.isHeldDenied() && !isAnswer(&denial) {
		denial = s.Decision // as concerns says
	}
	a := s.denyLocally(denial)
	a.ReturnSlot = hasSlot
	if e.Kind == RevokedSuperseded {
		// It is not remembered: the viewer may zap back at any time.
		s.phase = closed
		a.WakeAt, a.Close = time.Time{}, closedSuperseded
	}
	return s.releaseLease(a)
}

// concerns reports whether the session is to be denied.
func (e Revoked) concerns(s step) bool {
	switch {
	case !e.Opened.IsZero() && s.Opened().After(e.Opened):
		return false // it was opened anew since
	case e.Kind == RevokedDenied && s.phase.isDenied() && isAnswer(&s.Decision):
		return false // this node announced it
	case s.phase == deniedRemembered && isAnswer(&s.Decision):
		return false // once the ban, kick or limit is over the viewer would be unknown
	default:
		return e.Kind != RevokedSuperseded || !s.isHeldDenied() // a viewer who is denied plays nothing that could end
	}
}

// apply forgets the denial of a viewer who was banned or kicked, or a session that was replaced, whatever has become of it since.
func (e Forgotten) apply(s step) Action {
	isBanned := s.phase.isDenied() && isOfOperator(&s.Decision)
	switch {
	case e.IsReplaced && s.WasAllowed:
		return s.end(closedDenied)
	case e.IsReplaced, isBanned:
		return s.end(closedForgotten)
	default:
		return Action{}
	}
}

// apply continues with what was published before a panic. What was in flight is lost, so the session is renewed soon.
func (e Restored) apply(s step) Action {
	s.CheckNumber++ // an answer still in flight belongs to the state that is lost
	s.Decision = e.Decision
	switch e.Decision.Verdict {
	case backends.Allowed:
		s.phase, s.WasAllowed, s.Expires = allowedFresh, true, s.renewalAt(s.RecheckMin)
		s.ValidUntil = s.Expires
		return Action{WakeAt: s.nextWake(s.now)}
	case backends.Denied:
		s.phase, s.Expires = deniedRemembered, s.now+s.denialTTL()
	default:
		s.phase, s.Expires = retryLater, s.now+s.RetryAfter
	}
	return Action{WakeAt: s.at(s.Expires)}
}
