package actors

import (
	"time"

	"usher/backends"
)

// This file is the part of a session's logic that deals with the store: what other nodes know, and who asks.

// leeway is how much later than the node that asked last the others look whether it has asked again: so long that its
// answer is there mostly, and short enough that nobody watches on an old one for long if that node is gone.
const leeway = time.Second

func (s *session) claimed(e claimed, kind claimKind, now time.Time) action {
	s.claiming = false
	a := action{}
	switch {
	case s.phase == opening && kind == openClaim:
		a = s.begun(e, now)
	case s.phase != allowed && s.phase != rechecking:
	case kind != openClaim || s.decision.Source == backends.FromTicket: // it was let in while the store did not answer
		a = s.goneOn(e, kind, now)
	}
	if a.ask {
		s.lease = e.Fence
		return a
	}
	a.fence = s.fence
	if e.Fence != 0 { // it is somebody else's turn
		own := s.lease
		s.lease = e.Fence
		a = s.settle(a)
		s.lease = own
	}
	a.refund = kind == turnClaim
	return a
}

// begun goes on from what the store knew, or starts afresh.
func (s *session) begun(e claimed, now time.Time) action {
	if s.asking {
		return action{}
	}
	r := e.Record
	if e.Found {
		switch {
		case now.Before(r.Kicked):
			return s.turnAway(Kicked(), now)
		case s.isBuried(r):
			return s.refuse("the ticket's session was denied", endedDenied)
		case e.refused != nil:
			return s.turnAway(*e.refused, now)
		}
		s.hasFacts = s.hasFacts || r.Facts != nil
		if a, done := s.adopt(r, now); done {
			return a
		}
	}
	if !s.ran && s.presented.Opened.After(r.Buried) {
		// One session has one ticket for life, also if nobody remembers it.
		s.opened, s.key = s.presented.Opened, s.presented.Key
	}
	if !s.opened.After(r.Buried) {
		s.opened = r.Buried.Add(time.Second) // or the new ticket would be as good as the old one
	}
	if s.hasFacts && !s.ticketIsBetter(now) {
		s.asking = true
		return action{ask: true}
	}
	return s.believeTicket(now)
}

// Kicked is what a viewer is told whose session an operator ended.
func Kicked() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator, Reason: "ended by an operator"}
}

// turnAway refuses a viewer on whom no backend needs to decide. It is remembered here alone: the store knows already.
func (s *session) turnAway(d backends.Decision, now time.Time) action {
	s.phase, s.decision = denied, d
	s.expires = now.Add(s.denyFor)
	s.until = s.expires
	return action{publish: true, wake: s.expires}
}

// isBuried reports whether the presented ticket belongs to a session that was denied while it ran. Whoever brings
// credentials is asked about instead.
func (s *session) isBuried(r backends.Record) bool {
	return !s.presented.IsZero() && !r.Buried.IsZero() && !s.presented.Opened.After(r.Buried) && !s.hasFacts
}

// adopt takes over a session that lived before, here or on another node. It is not done when somebody has to be asked.
func (s *session) adopt(r backends.Record, now time.Time) (a action, done bool) {
	switch {
	case s.shared && s.hasFacts && r.Decision.Verdict == backends.Denied && r.Decision.Source.Asked() && now.Before(r.Expires):
		s.phase, s.decision, s.fence = denied, r.Decision, r.Fence
		s.expires, s.until = r.Expires, r.Expires
		return action{publish: true, wake: s.expires}, true
	case r.Decision.Verdict != backends.Allowed || !r.Opened.After(r.Buried):
		return action{}, false
	}
	s.opened, s.key, s.ran = r.Opened, r.Key, true
	s.take(r)
	s.check++
	holds, late := now.Before(s.until), false
	switch {
	case holds:
	case s.tokenIsSpent(now) && s.expiredToken == KeepOnExpiredToken:
		holds, s.expires = true, s.renewalAt(s.clamped(0), now)
	case s.shared && s.hasFacts && r.Decision.Source.Asked() && now.Before(s.until.Add(s.recheckMin)):
		holds, late = true, true // another node is about to renew it, or this one is
	}
	if !holds {
		return action{}, false
	}
	s.phase = allowed
	a = action{publish: true}
	switch {
	case late:
		s.phase, a.queue = rechecking, overdueLane
	case !s.decision.Source.Asked() && s.hasFacts && !s.tokenIsSpent(now):
		s.phase, a.queue = rechecking, stopgapLane
	}
	a.wake = s.nextWake(now, now)
	return a, true
}

// take stands on another node's decision from now on. That node renews it; this one looks a little later.
func (s *session) take(r backends.Record) {
	s.decision, s.fence, s.check = r.Decision, r.Fence, r.Check
	s.owner, s.until, s.expires = false, r.Expires, r.Expires
	if s.shared {
		s.expires = r.Expires.Add(leeway)
	}
}

// goneOn is for a session that runs: another node may have asked, or refused it.
func (s *session) goneOn(e claimed, kind claimKind, now time.Time) action {
	r := e.Record
	newer := e.Found && r.Fence > s.fence && r.Decision.Source.Asked() && now.Before(r.Expires) &&
		r.Decision.Verdict != backends.Undecided
	switch {
	case e.Found && now.Before(r.Kicked):
		return s.turnAway(Kicked(), now)
	case e.Found && !r.Buried.IsZero() && !s.opened.After(r.Buried):
		return s.turnAway(refusalOf(r), now)
	case e.refused != nil:
		return s.turnAway(*e.refused, now)
	case newer && r.Decision.Verdict == backends.Denied:
		return s.turnAway(r.Decision, now)
	case newer:
		s.take(r)
		s.hasFacts = s.hasFacts || r.Facts != nil
		s.phase = allowed
		return action{publish: true, wake: s.nextWake(s.presence(now), now)}
	case kind == turnClaim:
		return s.useTurn(now)
	case !s.hasFacts && r.Facts != nil:
		return s.credentialsCame(now)
	case e.Asking:
		return action{wake: now.Add(leeway)}
	}
	s.owner = true
	a := s.renewNow(e.timerFired, now)
	a.save = a.save || !e.Found && !e.away // the store has lost it
	return a
}

// refusalOf is why the session of a buried ticket was refused, as far as the record tells.
func refusalOf(r backends.Record) backends.Decision {
	if r.Decision.Verdict == backends.Denied {
		return r.Decision
	}
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit, Reason: "refused on another node"}
}

// useTurn asks, unless the token's life ended meanwhile.
func (s *session) useTurn(now time.Time) action {
	if s.phase != rechecking {
		return action{}
	}
	if s.tokenIsSpent(now) {
		return s.onSpentToken(now, now)
	}
	s.check++
	s.asking = true
	return action{ask: true}
}

// ticketIsBetter reports whether asking about the viewer could only bring a false No, while his ticket speaks for him.
func (s *session) ticketIsBetter(now time.Time) bool {
	return s.ticketHolds(now) && s.opened.Equal(s.presented.Opened) &&
		s.tokenIsSpent(now) && s.expiredToken == KeepOnExpiredToken
}

// ticketHolds reports whether the presented ticket may speak for a session that nobody remembers.
func (s *session) ticketHolds(now time.Time) bool {
	return !s.presented.IsZero() && !s.reviveDenied && now.Sub(s.presented.Opened) <= s.reviveFor
}

// believeTicket admits a session that nobody remembers on the word of its ticket, if that is young enough.
func (s *session) believeTicket(now time.Time) action {
	if !s.ticketHolds(now) {
		return s.refuse("nobody remembers the ticket's session", endedUnknown)
	}
	s.phase, s.ran = allowed, true
	s.decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
	s.expires = s.renewalAt(s.clamped(0), now)
	s.until = s.expires
	return action{publish: true, save: true, wake: s.nextWake(now, now)}
}

// refuse denies the waiting requests and keeps no memory of it, so that credentials can open the session afresh.
func (s *session) refuse(reason string, e ending) action {
	s.phase = closed
	s.decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromTicket, Reason: reason}
	return action{publish: true, ending: e}
}

// overtaken: what this node was told is older than what another one was. That counts, and is looked up.
func (s *session) overtaken(now time.Time) action {
	if s.asking || s.claiming || s.phase != allowed && s.phase != denied {
		return action{} // it is about to know, or knows nothing
	}
	s.owner = false
	s.expires = now.Add(leeway)
	return action{wake: s.expires}
}

// doubted: revocations may have been missed.
func (s *session) doubted() action {
	if s.asking || s.claiming || s.phase != allowed && s.phase != rechecking {
		return action{}
	}
	s.claiming = true
	return action{claim: lookClaim}
}

// revoked refuses a session that has to go. What was on its way for it does not matter any more.
func (s *session) revoked(e revoked, now time.Time) action {
	switch {
	case !e.opened.IsZero() && s.opened.After(e.opened):
		return action{} // it was opened afresh since
	case e.kind == backends.RevokedDenied && s.phase == denied:
		return action{} // this node's own word
	}
	s.check++
	s.asking = false
	a := s.turnAway(e.decision, now)
	if e.kind == backends.RevokedSuperseded {
		// No memory: his viewer may zap back at any time.
		s.phase = closed
		a.wake, a.ending = time.Time{}, endedElsewhere
	}
	return s.settle(a)
}

// pardoned forgets the refusal of somebody who is not banned any more.
func (s *session) pardoned() action {
	if s.phase == denied && s.decision.Source == backends.FromBan {
		return s.end(endedForgotten)
	}
	return action{}
}
