package session

import (
	"encoding/binary"
	"time"

	"usher/backends"
)

// This file is the part of a session's logic that time drives: idle viewers, renewals, memories.

func (s *State) onTimer(e TimerFired, now time.Time) Action {
	s.lastSeen = e.LastSeen
	switch s.Phase {
	case denied:
		return s.memoryFired(e, now)
	case undecided:
		if s.checkInFlight || now.Before(s.Expires) {
			return Action{WakeAt: now.Add(s.RetryAfter)}
		}
		return s.end(closedForgotten)
	case Allowed, Rechecking:
		if now.Sub(e.LastSeen) >= s.idleAfter() {
			return s.end(ClosedIdle)
		}
		return s.renew(e, now)
	default:
		return Action{}
	}
}

// memoryFired forgets a denial when its time is over. While nobody could be asked afresh somebody's No is kept; the
// outage policy's own is not: it needs no memory, and whoever comes again may be the one that finds the backend back.
func (s *State) memoryFired(e TimerFired, now time.Time) Action {
	switch {
	case s.checkInFlight:
		return Action{WakeAt: now.Add(s.RetryAfter)}
	case now.Before(s.Expires):
		return Action{WakeAt: s.Expires}
	case e.Breaker != backends.BreakerClosed && (s.Decision.Source == backends.FromBackend || s.Decision.Source == backends.FromLocal):
		return s.keepDenial(e, now)
	case s.WasAllowed:
		return s.end(ClosedDenied)
	default:
		return s.end(closedForgotten)
	}
}

// keepDenial remembers the denial for longer. Where it is all that a backend under trial could be asked about, it is
// asked about: else a node on which everybody was denied would never find its backend back. A session that ran is not,
// as its ticket is buried.
func (s *State) keepDenial(e TimerFired, now time.Time) Action {
	s.Expires = now.Add(s.DenyFor)
	a := Action{WakeAt: s.Expires}
	if e.Breaker == backends.BreakerHalfOpen && s.HasCredentials && !s.WasAllowed && now.Sub(e.LastSeen) < s.idleAfter() {
		s.CheckNumber++
		s.checkInFlight, a.StartCheck = true, true
	}
	return a
}

func (s *State) end(e CloseReason) Action {
	s.Phase = closed
	return Action{Close: e}
}

// renew asks again about a session whose decision ran out, once it has seen that no other node has.
func (s *State) renew(e TimerFired, now time.Time) Action {
	isDue := !s.checkInFlight && !s.lookupInFlight && !now.Before(s.Expires)
	if isDue && s.Shared && (!s.checkedHere || e.Breaker != backends.BreakerClosed) && !s.tokenIsSpent(now) {
		s.lookupInFlight = true
		return Action{Lookup: lookupOnly, WakeAt: s.nextWake(e.LastSeen, now)}
	}
	return s.renewNow(e, now)
}

// renewNow asks again about a session whose decision ran out.
func (s *State) renewNow(e TimerFired, now time.Time) Action {
	switch {
	case s.checkInFlight || s.lookupInFlight || now.Before(s.Expires):
		return Action{WakeAt: s.nextWake(e.LastSeen, now)}
	case s.Phase == Rechecking && (e.Breaker == backends.BreakerClosed || !s.Decision.Source.IsAuthoritative()):
		return Action{WakeAt: s.nextWake(e.LastSeen, now)} // it waits for its turn
	}
	if s.tokenIsSpent(now) {
		return s.onSpentToken(e.LastSeen, now)
	}
	if !s.HasCredentials {
		s.Expires = s.renewalAt(s.Clamped(0), now)
		return Action{WakeAt: s.nextWake(e.LastSeen, now)}
	}
	if e.Breaker != backends.BreakerClosed {
		return s.useFallback(e, now)
	}
	s.Phase = Rechecking
	return Action{Enqueue: laneOf(s.Decision.Source), WakeAt: s.nextWake(e.LastSeen, now)}
}

// useFallback says openly, in a session whose decision ran out in an outage, what it stands on from now on. It waits for its
// turn to be asked about all the same.
func (s *State) useFallback(e TimerFired, now time.Time) Action {
	switch {
	case e.Err == nil && e.Fallback.Verdict == backends.Denied:
		return s.deny(e.Fallback, now)
	case e.Err == nil && e.Fallback.Verdict == backends.Allowed:
		s.Decision = e.Fallback
	}
	a := Action{Publish: true, Save: true}
	if s.Phase != Rechecking {
		s.Phase, a.Enqueue = Rechecking, laneOf(s.Decision.Source)
	}
	a.WakeAt = s.nextWake(e.LastSeen, now)
	return a
}

// onSpentToken decides on a session whose token its middleware has long forgotten: asking could only bring a false No.
func (s *State) onSpentToken(lastSeen, now time.Time) Action {
	if s.ExpiredToken == backends.DenyOnExpiredToken {
		return s.deny(backends.Decision{
			Verdict: backends.Denied, Source: backends.FromLocal,
			UserID: s.Decision.UserID, User: s.Decision.User,
			Reason: "the decision ran out and the token is older than token_ttl (on_expired_token: deny)",
		}, now)
	}
	s.Phase, s.Expires = Allowed, s.renewalAt(s.Clamped(0), now)
	return Action{WakeAt: s.nextWake(lastSeen, now)}
}

// RecheckGranted asks, unless another node has meanwhile, or the token's life ended while the session waited for its turn,
// perhaps for a whole outage.
func (s *State) onRecheckGranted(now time.Time) Action {
	switch {
	case s.Phase != Rechecking || s.checkInFlight || s.lookupInFlight:
		return Action{ReturnSlot: true}
	case s.Shared && !s.tokenIsSpent(now):
		s.lookupInFlight = true
		return Action{Lookup: LookupForRecheck}
	default:
		return s.useTurn(now)
	}
}

// CredentialsArrived has the session asked about that only its ticket spoke for, if its token still lives.
func (s *State) onCredentialsArrived(now time.Time) Action {
	if s.HasCredentials {
		return Action{}
	}
	s.HasCredentials = true
	if s.Phase != Allowed || s.Decision.Source.IsAuthoritative() || s.tokenIsSpent(now) {
		return Action{}
	}
	s.Phase = Rechecking
	return Action{Enqueue: PriorityUnverified, Save: true, Revision: s.Revision}
}

// onRestored goes on from what was published before the panic; what was on its way is lost, so it is asked again soon.
func (s *State) onRestored(now time.Time) Action {
	s.CheckNumber++ // an answer still on its way belongs to the state that is gone
	s.checkInFlight, s.lookupInFlight = false, false
	switch s.Decision.Verdict {
	case backends.Allowed:
		s.Phase, s.WasAllowed, s.Expires = Allowed, true, s.renewalAt(s.RecheckMin, now)
		s.ValidUntil = s.Expires
	case backends.Denied:
		s.Phase, s.Expires = denied, now.Add(s.DenyFor)
		return Action{WakeAt: s.Expires}
	default:
		s.Phase, s.Expires = undecided, now.Add(s.RetryAfter)
		return Action{WakeAt: s.Expires}
	}
	return Action{WakeAt: s.nextWake(now, now)}
}

// Standing is the decision that a check may fall back on; Undecided for a viewer on whom nobody has decided.
func (s *State) Standing() backends.Decision {
	if s.WasAllowed || s.Phase == denied {
		return s.Decision
	}
	return backends.Decision{}
}

// tokenIsSpent reports whether the viewer's token has outlived its life, so that its middleware no longer knows it.
func (s *State) tokenIsSpent(now time.Time) bool { return s.tokenIsSpentAt(now) }

func (s *State) tokenIsSpentAt(at time.Time) bool {
	return s.TokenLife > 0 && at.Sub(s.Opened) > s.TokenLife
}

// nextWake is when the timer must look again: at renewal, or when the viewer would count as gone. A check on its way
// wakes the session itself.
func (s *State) nextWake(lastSeen, now time.Time) time.Time {
	idle := lastSeen.Add(s.idleAfter())
	if s.Shared && s.Phase == Rechecking && !s.Decision.Source.IsAuthoritative() && !s.checkInFlight && !s.lookupInFlight {
		// This node cannot ask, but another one may have: seldom, for in an outage of the backend itself none has.
		if look := now.Add(s.Clamped(0)); look.Before(idle) {
			return look
		}
	}
	if s.Phase == Allowed && !s.checkInFlight && !s.lookupInFlight && s.Expires.Before(idle) {
		return later(s.Expires, now)
	}
	return later(idle, now)
}

// presence is when the viewer may have been seen last: at an edge not since the timer said so, or he would be renewed for
// one validity more than he watches.
func (s *State) presence(now time.Time) time.Time {
	if s.ExtraLifetime > 0 && !s.lastSeen.IsZero() {
		return s.lastSeen
	}
	return now
}

// idleAfter is the silence after which the viewer is gone.
func (s *State) idleAfter() time.Duration {
	if s.ExtraLifetime == 0 {
		return s.IdleTimeout
	}
	return max(s.IdleTimeout, s.Clamped(s.Decision.ValidFor)+s.ExtraLifetime)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func laneOf(s backends.Source) QueuePriority {
	if s == backends.FromFailOpen || s == backends.FromTicket {
		return PriorityUnverified
	}
	return PriorityOverdue
}

// Clamped is how long an answer holds: as long as the backend said, within bounds that protect it and us.
func (r *Policy) Clamped(validFor time.Duration) time.Duration {
	if validFor <= 0 {
		validFor = r.Validity
	}
	return min(max(validFor, r.RecheckMin), r.RecheckMax)
}

// renewalAt is a little before validity is over, by a share that differs from session to session and check to check, so
// that those who came at once are not asked about at once. It is derived, not drawn, so that step stays pure.
func (s *State) renewalAt(validity time.Duration, now time.Time) time.Time {
	spread := binary.LittleEndian.Uint32(s.ID[12:]) ^ uint32(s.CheckNumber)*0x9E3779B9
	early := s.Jitter * float64(spread) / (1 << 32)
	return now.Add(validity - time.Duration(early*float64(validity)))
}
