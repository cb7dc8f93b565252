package session

import (
	"encoding/binary"
	"time"

	"usher/backends"
)

// This file is the part of a session's logic that time drives: idle viewers, renewals, memories.

func (s *State) timerFired(e TimerFired, now time.Time) Action {
	s.seen = e.LastSeen
	switch s.Phase {
	case denied:
		return s.memoryFired(e, now)
	case undecided:
		if s.asking || now.Before(s.Expires) {
			return Action{Wake: now.Add(s.RetryAfter)}
		}
		return s.end(endedForgotten)
	case Allowed, Rechecking:
		if now.Sub(e.LastSeen) >= s.idleAfter() {
			return s.end(EndedIdle)
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
	case s.asking:
		return Action{Wake: now.Add(s.RetryAfter)}
	case now.Before(s.Expires):
		return Action{Wake: s.Expires}
	case e.Health != backends.BreakerClosed && (s.Decision.Source == backends.FromBackend || s.Decision.Source == backends.FromRule):
		return s.keepDenial(e, now)
	case s.Ran:
		return s.end(EndedDenied)
	default:
		return s.end(endedForgotten)
	}
}

// keepDenial remembers the denial for longer. Where it is all that a backend under trial could be asked about, it is
// asked about: else a node on which everybody was denied would never find its backend back. A session that ran is not,
// as its ticket is buried.
func (s *State) keepDenial(e TimerFired, now time.Time) Action {
	s.Expires = now.Add(s.DenyFor)
	a := Action{Wake: s.Expires}
	if e.Health == backends.BreakerHalfOpen && s.HasFacts && !s.Ran && now.Sub(e.LastSeen) < s.idleAfter() {
		s.Check++
		s.asking, a.Ask = true, true
	}
	return a
}

func (s *State) end(e Ending) Action {
	s.Phase = closed
	return Action{Ending: e}
}

// renew asks again about a session whose decision ran out, once it has seen that no other node has.
func (s *State) renew(e TimerFired, now time.Time) Action {
	isDue := !s.asking && !s.claiming && !now.Before(s.Expires)
	if isDue && s.Shared && (!s.owner || e.Health != backends.BreakerClosed) && !s.tokenIsSpent(now) {
		s.claiming = true
		return Action{Claim: lookClaim, Wake: s.nextWake(e.LastSeen, now)}
	}
	return s.renewNow(e, now)
}

// renewNow asks again about a session whose decision ran out.
func (s *State) renewNow(e TimerFired, now time.Time) Action {
	switch {
	case s.asking || s.claiming || now.Before(s.Expires):
		return Action{Wake: s.nextWake(e.LastSeen, now)}
	case s.Phase == Rechecking && (e.Health == backends.BreakerClosed || !s.Decision.Source.Asked()):
		return Action{Wake: s.nextWake(e.LastSeen, now)} // it waits for its turn
	}
	if s.tokenIsSpent(now) {
		return s.onSpentToken(e.LastSeen, now)
	}
	if !s.HasFacts {
		s.Expires = s.renewalAt(s.Clamped(0), now)
		return Action{Wake: s.nextWake(e.LastSeen, now)}
	}
	if e.Health != backends.BreakerClosed {
		return s.standIn(e, now)
	}
	s.Phase = Rechecking
	return Action{Queue: laneOf(s.Decision.Source), Wake: s.nextWake(e.LastSeen, now)}
}

// standIn says openly, in a session whose decision ran out in an outage, what it stands on from now on. It waits for its
// turn to be asked about all the same.
func (s *State) standIn(e TimerFired, now time.Time) Action {
	switch {
	case e.Err == nil && e.Instead.Verdict == backends.Denied:
		return s.deny(e.Instead, now)
	case e.Err == nil && e.Instead.Verdict == backends.Allowed:
		s.Decision = e.Instead
	}
	a := Action{Publish: true, Save: true}
	if s.Phase != Rechecking {
		s.Phase, a.Queue = Rechecking, laneOf(s.Decision.Source)
	}
	a.Wake = s.nextWake(e.LastSeen, now)
	return a
}

// onSpentToken decides on a session whose token its middleware has long forgotten: asking could only bring a false No.
func (s *State) onSpentToken(lastSeen, now time.Time) Action {
	if s.ExpiredToken == backends.ExpiredDeny {
		return s.deny(backends.Decision{
			Verdict: backends.Denied, Source: backends.FromRule,
			UserID: s.Decision.UserID, User: s.Decision.User,
			Reason: "the decision ran out and the token is older than token_life (on_expired_token: deny)",
		}, now)
	}
	s.Phase, s.Expires = Allowed, s.renewalAt(s.Clamped(0), now)
	return Action{Wake: s.nextWake(lastSeen, now)}
}

// TurnCame asks, unless another node has meanwhile, or the token's life ended while the session waited for its turn,
// perhaps for a whole outage.
func (s *State) turnCame(now time.Time) Action {
	switch {
	case s.Phase != Rechecking || s.asking || s.claiming:
		return Action{Refund: true}
	case s.Shared && !s.tokenIsSpent(now):
		s.claiming = true
		return Action{Claim: TurnClaim}
	default:
		return s.useTurn(now)
	}
}

// CredentialsCame has the session asked about that only its ticket spoke for, if its token still lives.
func (s *State) credentialsCame(now time.Time) Action {
	if s.HasFacts {
		return Action{}
	}
	s.HasFacts = true
	if s.Phase != Allowed || s.Decision.Source.Asked() || s.tokenIsSpent(now) {
		return Action{}
	}
	s.Phase = Rechecking
	return Action{Queue: StopgapLane, Save: true, Fence: s.Fence}
}

// rebuilt goes on from what was published before the panic; what was on its way is lost, so it is asked again soon.
func (s *State) rebuilt(now time.Time) Action {
	s.Check++ // an answer still on its way belongs to the state that is gone
	s.asking, s.claiming = false, false
	switch s.Decision.Verdict {
	case backends.Allowed:
		s.Phase, s.Ran, s.Expires = Allowed, true, s.renewalAt(s.RecheckMin, now)
		s.Until = s.Expires
	case backends.Denied:
		s.Phase, s.Expires = denied, now.Add(s.DenyFor)
		return Action{Wake: s.Expires}
	default:
		s.Phase, s.Expires = undecided, now.Add(s.RetryAfter)
		return Action{Wake: s.Expires}
	}
	return Action{Wake: s.nextWake(now, now)}
}

// Standing is the decision that a check may fall back on; Undecided for a viewer on whom nobody has decided.
func (s *State) Standing() backends.Decision {
	if s.Ran || s.Phase == denied {
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
	if s.Shared && s.Phase == Rechecking && !s.Decision.Source.Asked() && !s.asking && !s.claiming {
		// This node cannot ask, but another one may have: seldom, for in an outage of the backend itself none has.
		if look := now.Add(s.Clamped(0)); look.Before(idle) {
			return look
		}
	}
	if s.Phase == Allowed && !s.asking && !s.claiming && s.Expires.Before(idle) {
		return later(s.Expires, now)
	}
	return later(idle, now)
}

// presence is when the viewer may have been seen last: at an edge not since the timer said so, or he would be renewed for
// one validity more than he watches.
func (s *State) presence(now time.Time) time.Time {
	if s.Margin > 0 && !s.seen.IsZero() {
		return s.seen
	}
	return now
}

// idleAfter is the silence after which the viewer is gone.
func (s *State) idleAfter() time.Duration {
	if s.Margin == 0 {
		return s.IdleTimeout
	}
	return max(s.IdleTimeout, s.Clamped(s.Decision.ValidFor)+s.Margin)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func laneOf(s backends.Source) Lane {
	if s == backends.FromFailOpen || s == backends.FromTicket {
		return StopgapLane
	}
	return OverdueLane
}

// Clamped is how long an answer holds: as long as the backend said, within bounds that protect it and us.
func (r *Rules) Clamped(validFor time.Duration) time.Duration {
	if validFor <= 0 {
		validFor = r.Validity
	}
	return min(max(validFor, r.RecheckMin), r.RecheckMax)
}

// renewalAt is a little before validity is over, by a share that differs from session to session and check to check, so
// that those who came at once are not asked about at once. It is derived, not drawn, so that step stays pure.
func (s *State) renewalAt(validity time.Duration, now time.Time) time.Time {
	spread := binary.LittleEndian.Uint32(s.Id[12:]) ^ uint32(s.Check)*0x9E3779B9
	early := s.Jitter * float64(spread) / (1 << 32)
	return now.Add(validity - time.Duration(early*float64(validity)))
}
