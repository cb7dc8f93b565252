package session

import (
	"time"

	"usher/backends"
)

// This file handles what time drives: idle viewers, renewals and re-checks, and denials to forget.

// apply forgets, closes or renews the session.
func (e TimerFired) apply(s step) Action {
	s.lastSeen = s.since(e.LastSeen)
	switch {
	case s.phase == deniedRemembered:
		return s.onDenialTimer(e)
	case s.phase == retryLater && s.now >= s.Expires:
		return s.end(closedForgotten)
	case s.phase == deniedChecking, s.phase == retryLater, s.phase == retryLaterChecking:
		return Action{WakeAt: s.at(s.now + s.RetryAfter)}
	case s.phase.isOpening():
		return Action{}
	case s.clock.Sub(e.LastSeen) >= s.idleAfter():
		return s.end(ClosedIdle)
	case s.phase == allowedFresh, s.phase == recheckQueued:
		return s.lookOrRenew(e)
	default:
		return Action{WakeAt: s.nextWake(s.lastSeen)}
	}
}

// onDenialTimer forgets a denial when its time is over. While the backend is down, or a part of it while the viewer asks, a denial of the
// backend's is kept: their next request opens the session anew, and without an answer the denial holds on. The outage policy's own is
// not kept.
func (s step) onDenialTimer(e TimerFired) Action {
	switch {
	case s.now < s.Expires:
		return Action{WakeAt: s.at(s.Expires)}
	case isAnswer(&s.Decision) && !s.IsRemoved && (e.Breaker != backends.BreakerClosed || e.IsImpaired && s.clock.Sub(e.LastSeen) < s.idleAfter()):
		s.Expires = 0
		return Action{WakeAt: s.at(s.now + s.DenialTTL)}
	case s.WasAllowed:
		return s.end(closedDenied)
	default:
		return s.end(closedForgotten)
	}
}

// lookOrRenew renews a decision that has expired, after a look whether another node has.
func (s step) lookOrRenew(e TimerFired) Action {
	isDue := s.now >= s.Expires
	if isDue && s.Shared && (!s.checkedHere || e.Breaker != backends.BreakerClosed) && !s.tokenIsSpent() {
		a := s.look()
		a.WakeAt = s.nextWake(s.since(e.LastSeen))
		return a
	}
	return s.renew(e)
}

// renew queues a session whose decision has expired for a re-check, or applies the outage policy. Nothing is in flight.
func (s step) renew(e TimerFired) Action {
	lastSeen := s.since(e.LastSeen)
	isQueued := s.phase == recheckQueued
	switch {
	case s.now < s.Expires:
	case isQueued && (e.Breaker == backends.BreakerClosed || !s.Decision.Source.IsAuthoritative() && !s.ReviveDenied):
	case s.tokenIsSpent():
		return s.onSpentToken(lastSeen)
	case !s.HasCredentials:
		s.Expires = s.renewalAt(s.Clamped(0))
	case e.Breaker != backends.BreakerClosed:
		return s.useFallback(e)
	default:
		s.phase = recheckQueued
		return Action{Enqueue: priorityOf(s.Decision.Source), WakeAt: s.nextWake(lastSeen)}
	}
	return Action{WakeAt: s.nextWake(lastSeen)}
}

// useFallback publishes what a session stands on whose decision expires in an outage. The session is queued all the same: it may be the
// one that finds the backend recovered. What the backend decides on the viewer without a call is an answer as any.
func (s step) useFallback(e TimerFired) Action {
	isOwn := isAnswer(&e.Fallback)
	a := Action{Publish: true, Save: true}
	switch e.Fallback.Verdict {
	case backends.Denied:
		if isOwn || s.now >= s.ValidUntil {
			return s.deny(e.Fallback)
		}
		s.Expires, a = s.ValidUntil, Action{} // a renewal is due a little before
	case backends.Allowed:
		if isOwn {
			a = s.allow(e.Fallback, false)
			a.Save = true
			return a
		}
		s.Decision = e.Fallback
	}
	if s.phase != recheckQueued {
		s.phase, a.Enqueue = recheckQueued, priorityOf(s.Decision.Source)
	}
	a.WakeAt = s.nextWake(s.since(e.LastSeen))
	return a
}

// onSpentToken decides on a session whose token the backend has forgotten: a check could only bring a false No.
func (s step) onSpentToken(lastSeen time.Duration) Action {
	if s.ExpiredToken == denyOnExpiredToken {
		return s.deny(backends.Decision{
			Verdict: backends.Denied, Source: backends.FromLocal,
			UserID: s.Decision.UserID, User: s.Decision.User,
			Reason: "the decision expired and the token is older than token_life (on_expired_token: deny)",
		})
	}
	s.phase, s.Expires = allowedFresh, s.renewalAt(s.Clamped(0))
	return Action{WakeAt: s.nextWake(lastSeen)}
}

// apply uses the slot for a check, unless the token has expired in the queue, perhaps in a long outage. A slot that finds no
// session waiting for it is returned.
func (RecheckGranted) apply(s step) Action {
	switch {
	case s.phase == recheckLooking:
		s.phase = recheckSlotMissed
		return Action{ReturnSlot: true}
	case s.phase != recheckQueued:
		return Action{ReturnSlot: true}
	case s.tokenIsSpent():
		a := s.onSpentToken(s.now)
		a.ReturnSlot = true
		return a
	case s.Shared:
		s.phase = recheckLeasing
		return Action{Lookup: LookupForRecheck}
	default:
		return s.startRecheck()
	}
}

func (s step) startRecheck() Action {
	s.CheckNumber++
	s.phase = recheckChecking
	return Action{StartCheck: true}
}

// apply queues a session that was admitted by ticket alone, unless its token has expired.
func (CredentialsArrived) apply(s step) Action {
	if s.HasCredentials {
		return Action{}
	}
	s.HasCredentials = true
	isUnverified := (s.phase == allowedFresh || s.phase == allowedLooking) && !s.Decision.Source.IsAuthoritative()
	if !isUnverified || s.tokenIsSpent() {
		return Action{}
	}
	s.phase = either(s.phase == allowedFresh, recheckQueued, recheckLooking)
	return Action{Enqueue: PriorityUnverified, Save: true, Revision: s.Revision}
}
