package actors

import (
	"encoding/binary"
	"time"

	"usher/backends"
)

// This file is the part of a session's logic that time drives: idle viewers, renewals, memories.

func (s *session) timerFired(e timerFired, now time.Time) action {
	s.seen = e.lastSeen
	switch s.phase {
	case denied:
		return s.memoryFired(e, now)
	case undecided:
		if s.asking || now.Before(s.expires) {
			return action{wake: now.Add(s.retryAfter)}
		}
		return s.end(endedForgotten)
	case allowed, rechecking:
		if now.Sub(e.lastSeen) >= s.idleAfter() {
			return s.end(endedIdle)
		}
		return s.renew(e, now)
	default:
		return action{}
	}
}

// memoryFired forgets a denial when its time is over. While nobody could be asked afresh somebody's No is kept; the
// outage policy's own is not: it needs no memory, and whoever comes again may be the one that finds the backend back.
func (s *session) memoryFired(e timerFired, now time.Time) action {
	switch {
	case s.asking:
		return action{wake: now.Add(s.retryAfter)}
	case now.Before(s.expires):
		return action{wake: s.expires}
	case e.health != backends.BreakerClosed && (s.decision.Source == backends.FromBackend || s.decision.Source == backends.FromRule):
		return s.keepDenial(e, now)
	case s.ran:
		return s.end(endedDenied)
	default:
		return s.end(endedForgotten)
	}
}

// keepDenial remembers the denial for longer. Where it is all that a backend under trial could be asked about, it is
// asked about: else a node on which everybody was denied would never find its backend back. A session that ran is not,
// as its ticket is buried.
func (s *session) keepDenial(e timerFired, now time.Time) action {
	s.expires = now.Add(s.denyFor)
	a := action{wake: s.expires}
	if e.health == backends.BreakerHalfOpen && s.hasFacts && !s.ran && now.Sub(e.lastSeen) < s.idleAfter() {
		s.check++
		s.asking, a.ask = true, true
	}
	return a
}

func (s *session) end(e ending) action {
	s.phase = closed
	return action{ending: e}
}

// renew asks again about a session whose decision ran out, once it has seen that no other node has.
func (s *session) renew(e timerFired, now time.Time) action {
	isDue := !s.asking && !s.claiming && !now.Before(s.expires)
	if isDue && s.shared && (!s.owner || e.health != backends.BreakerClosed) && !s.tokenIsSpent(now) {
		s.claiming = true
		return action{claim: lookClaim, wake: s.nextWake(e.lastSeen, now)}
	}
	return s.renewNow(e, now)
}

// renewNow asks again about a session whose decision ran out.
func (s *session) renewNow(e timerFired, now time.Time) action {
	switch {
	case s.asking || s.claiming || now.Before(s.expires):
		return action{wake: s.nextWake(e.lastSeen, now)}
	case s.phase == rechecking && (e.health == backends.BreakerClosed || !s.decision.Source.Asked()):
		return action{wake: s.nextWake(e.lastSeen, now)} // it waits for its turn
	}
	if s.tokenIsSpent(now) {
		return s.onSpentToken(e.lastSeen, now)
	}
	if !s.hasFacts {
		s.expires = s.renewalAt(s.clamped(0), now)
		return action{wake: s.nextWake(e.lastSeen, now)}
	}
	if e.health != backends.BreakerClosed {
		return s.standIn(e, now)
	}
	s.phase = rechecking
	return action{queue: laneOf(s.decision.Source), wake: s.nextWake(e.lastSeen, now)}
}

// standIn says openly, in a session whose decision ran out in an outage, what it stands on from now on. It waits for its
// turn to be asked about all the same.
func (s *session) standIn(e timerFired, now time.Time) action {
	switch {
	case e.err == nil && e.instead.Verdict == backends.Denied:
		return s.deny(e.instead, now)
	case e.err == nil && e.instead.Verdict == backends.Allowed:
		s.decision = e.instead
	}
	a := action{publish: true, save: true}
	if s.phase != rechecking {
		s.phase, a.queue = rechecking, laneOf(s.decision.Source)
	}
	a.wake = s.nextWake(e.lastSeen, now)
	return a
}

// onSpentToken decides on a session whose token its middleware has long forgotten: asking could only bring a false No.
func (s *session) onSpentToken(lastSeen, now time.Time) action {
	if s.expiredToken == DenyOnExpiredToken {
		return s.deny(backends.Decision{
			Verdict: backends.Denied, Source: backends.FromRule,
			UserID: s.decision.UserID, User: s.decision.User,
			Reason: "the decision ran out and the token is older than token_life (on_expired_token: deny)",
		}, now)
	}
	s.phase, s.expires = allowed, s.renewalAt(s.clamped(0), now)
	return action{wake: s.nextWake(lastSeen, now)}
}

// turnCame asks, unless another node has meanwhile, or the token's life ended while the session waited for its turn,
// perhaps for a whole outage.
func (s *session) turnCame(now time.Time) action {
	switch {
	case s.phase != rechecking || s.asking || s.claiming:
		return action{refund: true}
	case s.shared && !s.tokenIsSpent(now):
		s.claiming = true
		return action{claim: turnClaim}
	default:
		return s.useTurn(now)
	}
}

// credentialsCame has the session asked about that only its ticket spoke for, if its token still lives.
func (s *session) credentialsCame(now time.Time) action {
	if s.hasFacts {
		return action{}
	}
	s.hasFacts = true
	if s.phase != allowed || s.decision.Source.Asked() || s.tokenIsSpent(now) {
		return action{}
	}
	s.phase = rechecking
	return action{queue: stopgapLane, save: true, fence: s.fence}
}

// rebuilt goes on from what was published before the panic; what was on its way is lost, so it is asked again soon.
func (s *session) rebuilt(now time.Time) action {
	s.check++ // an answer still on its way belongs to the state that is gone
	s.asking, s.claiming = false, false
	switch s.decision.Verdict {
	case backends.Allowed:
		s.phase, s.ran, s.expires = allowed, true, s.renewalAt(s.recheckMin, now)
		s.until = s.expires
	case backends.Denied:
		s.phase, s.expires = denied, now.Add(s.denyFor)
		return action{wake: s.expires}
	default:
		s.phase, s.expires = undecided, now.Add(s.retryAfter)
		return action{wake: s.expires}
	}
	return action{wake: s.nextWake(now, now)}
}

// standing is the decision that a check may fall back on; Undecided for a viewer on whom nobody has decided.
func (s *session) standing() backends.Decision {
	if s.ran || s.phase == denied {
		return s.decision
	}
	return backends.Decision{}
}

// tokenIsSpent reports whether the viewer's token has outlived its life, so that its middleware no longer knows it.
func (s *session) tokenIsSpent(now time.Time) bool { return s.tokenIsSpentAt(now) }

func (s *session) tokenIsSpentAt(at time.Time) bool {
	return s.tokenLife > 0 && at.Sub(s.opened) > s.tokenLife
}

// nextWake is when the timer must look again: at renewal, or when the viewer would count as gone. A check on its way
// wakes the session itself.
func (s *session) nextWake(lastSeen, now time.Time) time.Time {
	idle := lastSeen.Add(s.idleAfter())
	if s.shared && s.phase == rechecking && !s.decision.Source.Asked() && !s.asking && !s.claiming {
		// This node cannot ask, but another one may have: seldom, for in an outage of the backend itself none has.
		if look := now.Add(s.clamped(0)); look.Before(idle) {
			return look
		}
	}
	if s.phase == allowed && !s.asking && !s.claiming && s.expires.Before(idle) {
		return later(s.expires, now)
	}
	return later(idle, now)
}

// presence is when the viewer may have been seen last: at an edge not since the timer said so, or he would be renewed for
// one validity more than he watches.
func (s *session) presence(now time.Time) time.Time {
	if s.margin > 0 && !s.seen.IsZero() {
		return s.seen
	}
	return now
}

// idleAfter is the silence after which the viewer is gone.
func (s *session) idleAfter() time.Duration {
	if s.margin == 0 {
		return s.idleTimeout
	}
	return max(s.idleTimeout, s.clamped(s.decision.ValidFor)+s.margin)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func laneOf(s backends.Source) lane {
	if s == backends.FromFailOpen || s == backends.FromTicket {
		return stopgapLane
	}
	return overdueLane
}

// clamped is how long an answer holds: as long as the backend said, within bounds that protect it and us.
func (r *rules) clamped(validFor time.Duration) time.Duration {
	if validFor <= 0 {
		validFor = r.validity
	}
	return min(max(validFor, r.recheckMin), r.recheckMax)
}

// renewalAt is a little before validity is over, by a share that differs from session to session and check to check, so
// that those who came at once are not asked about at once. It is derived, not drawn, so that step stays pure.
func (s *session) renewalAt(validity time.Duration, now time.Time) time.Time {
	spread := binary.LittleEndian.Uint32(s.id[12:]) ^ uint32(s.check)*0x9E3779B9
	early := s.jitter * float64(spread) / (1 << 32)
	return now.Add(validity - time.Duration(early*float64(validity)))
}
