package session

import (
	"time"

	"usher/backends"
)

// This file is the part of a session's logic that deals with the store: what other nodes know, and who asks.

// leeway is how much later than the node that asked last the others look whether it has asked again: so long that its
// answer is there mostly, and short enough that nobody watches on an old one for long if that node is gone.
const leeway = time.Second

func (s *State) claimed(e StoreAnswered, kind ClaimKind, now time.Time) Action {
	s.claiming = false
	a := Action{}
	switch {
	case s.Phase == Opening && kind == OpenClaim:
		a = s.begun(e, now)
	case s.Phase != Allowed && s.Phase != Rechecking:
	case kind != OpenClaim || s.Decision.Source == backends.FromTicket: // it was let in while the store did not answer
		a = s.goneOn(e, kind, now)
	}
	if a.Ask {
		s.Lease = e.Fence
		return a
	}
	a.Fence = s.Fence
	if e.Fence != 0 { // it is somebody else's turn
		own := s.Lease
		s.Lease = e.Fence
		a = s.settle(a)
		s.Lease = own
	}
	a.Refund = kind == TurnClaim
	return a
}

// begun goes on from what the store knew, or starts afresh.
func (s *State) begun(e StoreAnswered, now time.Time) Action {
	if s.asking {
		return Action{}
	}
	r := e.Record
	if e.Found {
		switch {
		case now.Before(r.Kicked):
			return s.turnAway(Kicked(), now)
		case s.isBuried(r):
			return s.refuse("the ticket's session was denied", EndedDenied)
		case e.Refused != nil:
			return s.turnAway(*e.Refused, now)
		}
		s.HasFacts = s.HasFacts || r.Facts != nil
		if a, done := s.adopt(r, now); done {
			return a
		}
	}
	if !s.Ran && s.Presented.Opened.After(r.Buried) {
		// One session has one ticket for life, also if nobody remembers it.
		s.Opened, s.Key = s.Presented.Opened, s.Presented.Key
	}
	if !s.Opened.After(r.Buried) {
		s.Opened = r.Buried.Add(time.Second) // or the new ticket would be as good as the old one
	}
	if s.HasFacts && !s.ticketIsBetter(now) {
		s.asking = true
		return Action{Ask: true}
	}
	return s.believeTicket(now)
}

// Kicked is what a viewer is told whose session an operator ended.
func Kicked() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator, Reason: "ended by an operator"}
}

// turnAway refuses a viewer on whom no backend needs to decide. It is remembered here alone: the store knows already.
func (s *State) turnAway(d backends.Decision, now time.Time) Action {
	s.Phase, s.Decision = denied, d
	s.Expires = now.Add(s.DenyFor)
	s.Until = s.Expires
	return Action{Publish: true, Wake: s.Expires}
}

// isBuried reports whether the presented ticket belongs to a session that was denied while it ran. Whoever brings
// credentials is asked about instead.
func (s *State) isBuried(r Record) bool {
	return !s.Presented.IsZero() && !r.Buried.IsZero() && !s.Presented.Opened.After(r.Buried) && !s.HasFacts
}

// adopt takes over a session that lived before, here or on another node. It is not done when somebody has to be asked.
func (s *State) adopt(r Record, now time.Time) (a Action, done bool) {
	switch {
	case s.Shared && s.HasFacts && r.Decision.Verdict == backends.Denied && r.Decision.Source.Asked() && now.Before(r.Expires):
		s.Phase, s.Decision, s.Fence = denied, r.Decision, r.Fence
		s.Expires, s.Until = r.Expires, r.Expires
		return Action{Publish: true, Wake: s.Expires}, true
	case r.Decision.Verdict != backends.Allowed || !r.Opened.After(r.Buried):
		return Action{}, false
	}
	s.Opened, s.Key, s.Ran = r.Opened, r.Key, true
	s.take(r)
	s.Check++
	holds, late := now.Before(s.Until), false
	switch {
	case holds:
	case s.tokenIsSpent(now) && s.ExpiredToken == backends.ExpiredKeep:
		holds, s.Expires = true, s.renewalAt(s.Clamped(0), now)
	case s.Shared && s.HasFacts && r.Decision.Source.Asked() && now.Before(s.Until.Add(s.RecheckMin)):
		holds, late = true, true // another node is about to renew it, or this one is
	}
	if !holds {
		return Action{}, false
	}
	s.Phase = Allowed
	a = Action{Publish: true}
	switch {
	case late:
		s.Phase, a.Queue = Rechecking, OverdueLane
	case !s.Decision.Source.Asked() && s.HasFacts && !s.tokenIsSpent(now):
		s.Phase, a.Queue = Rechecking, StopgapLane
	}
	a.Wake = s.nextWake(now, now)
	return a, true
}

// take stands on another node's decision from now on. That node renews it; this one looks a little later.
func (s *State) take(r Record) {
	s.Decision, s.Fence, s.Check = r.Decision, r.Fence, r.Check
	s.owner, s.Until, s.Expires = false, r.Expires, r.Expires
	if s.Shared {
		s.Expires = r.Expires.Add(leeway)
	}
}

// goneOn is for a session that runs: another node may have asked, or refused it.
func (s *State) goneOn(e StoreAnswered, kind ClaimKind, now time.Time) Action {
	r := e.Record
	newer := e.Found && r.Fence > s.Fence && r.Decision.Source.Asked() && now.Before(r.Expires) &&
		r.Decision.Verdict != backends.Undecided
	switch {
	case e.Found && now.Before(r.Kicked):
		return s.turnAway(Kicked(), now)
	case e.Found && !r.Buried.IsZero() && !s.Opened.After(r.Buried):
		return s.turnAway(refusalOf(r), now)
	case e.Refused != nil:
		return s.turnAway(*e.Refused, now)
	case newer && r.Decision.Verdict == backends.Denied:
		return s.turnAway(r.Decision, now)
	case newer:
		s.take(r)
		s.HasFacts = s.HasFacts || r.Facts != nil
		s.Phase = Allowed
		return Action{Publish: true, Wake: s.nextWake(s.presence(now), now)}
	case kind == TurnClaim:
		return s.useTurn(now)
	case !s.HasFacts && r.Facts != nil:
		return s.credentialsCame(now)
	case e.Asking:
		return Action{Wake: now.Add(leeway)}
	}
	s.owner = true
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
	s.Check++
	s.asking = true
	return Action{Ask: true}
}

// ticketIsBetter reports whether asking about the viewer could only bring a false No, while his ticket speaks for him.
func (s *State) ticketIsBetter(now time.Time) bool {
	return s.ticketHolds(now) && s.Opened.Equal(s.Presented.Opened) &&
		s.tokenIsSpent(now) && s.ExpiredToken == backends.ExpiredKeep
}

// ticketHolds reports whether the presented ticket may speak for a session that nobody remembers.
func (s *State) ticketHolds(now time.Time) bool {
	return !s.Presented.IsZero() && !s.ReviveDenied && now.Sub(s.Presented.Opened) <= s.ReviveFor
}

// believeTicket admits a session that nobody remembers on the word of its ticket, if that is young enough.
func (s *State) believeTicket(now time.Time) Action {
	if !s.ticketHolds(now) {
		return s.refuse("nobody remembers the ticket's session", endedUnknown)
	}
	s.Phase, s.Ran = Allowed, true
	s.Decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
	s.Expires = s.renewalAt(s.Clamped(0), now)
	s.Until = s.Expires
	return Action{Publish: true, Save: true, Wake: s.nextWake(now, now)}
}

// refuse denies the waiting requests and keeps no memory of it, so that credentials can open the session afresh.
func (s *State) refuse(reason string, e Ending) Action {
	s.Phase = closed
	s.Decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromTicket, Reason: reason}
	return Action{Publish: true, Ending: e}
}

// overtaken: what this node was told is older than what another one was. That counts, and is looked up.
func (s *State) overtaken(now time.Time) Action {
	if s.asking || s.claiming || s.Phase != Allowed && s.Phase != denied {
		return Action{} // it is about to know, or knows nothing
	}
	s.owner = false
	s.Expires = now.Add(leeway)
	return Action{Wake: s.Expires}
}

// doubted: revocations may have been missed.
func (s *State) doubted() Action {
	if s.asking || s.claiming || s.Phase != Allowed && s.Phase != Rechecking {
		return Action{}
	}
	s.claiming = true
	return Action{Claim: lookClaim}
}

// revoked refuses a session that has to go. What was on its way for it does not matter any more.
func (s *State) revoked(e Revoked, now time.Time) Action {
	switch {
	case !e.Opened.IsZero() && s.Opened.After(e.Opened):
		return Action{} // it was opened afresh since
	case e.Kind == RevokedDenied && s.Phase == denied:
		return Action{} // this node's own word
	}
	s.Check++
	s.asking = false
	a := s.turnAway(e.Decision, now)
	if e.Kind == RevokedSuperseded {
		// No memory: his viewer may zap back at any time.
		s.Phase = closed
		a.Wake, a.Ending = time.Time{}, endedElsewhere
	}
	return s.settle(a)
}

// pardoned forgets the refusal of somebody who is not banned any more.
func (s *State) pardoned() Action {
	if s.Phase == denied && s.Decision.Source == backends.FromBan {
		return s.end(endedForgotten)
	}
	return Action{}
}
