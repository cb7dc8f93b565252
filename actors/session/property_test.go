package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/backends"
)

// stateMachine drives a session as its shell does, with any order of events, and keeps account of what is on its way.
type stateMachine struct {
	s        *State
	now      time.Time
	lastSeen time.Time
	armed    bool       // a timer is set
	queued   bool       // a turn was asked for
	asked    bool       // a check is on its way
	decided  bool       // something was published
	claim    LookupKind // what the store was asked for and has not said yet
}

func newStateMachine(t *rapid.T) *stateMachine {
	pick := func(name string, of ...time.Duration) time.Duration { return rapid.SampledFrom(of).Draw(t, name) }
	r := plainRules()
	r.Validity = pick("validity", 0, 10*time.Second, 3*time.Minute, 10*time.Hour)
	r.TokenLife = pick("token_ttl", 0, 5*time.Second, time.Hour)
	r.ExpiredToken = rapid.SampledFrom([]backends.ExpiredTokenPolicy{backends.KeepOnExpiredToken, backends.DenyOnExpiredToken}).Draw(t, "on_expired_token")
	r.Jitter = rapid.SampledFrom([]float64{0, 0.1}).Draw(t, "jitter")
	r.Shared = rapid.Bool().Draw(t, "shared")
	r.ReviveDenied = rapid.Bool().Draw(t, "revive_denied")
	m := &stateMachine{now: t0(), lastSeen: t0(), s: &State{
		Policy: r, ID: idOf(rapid.IntRange(0, 99).Draw(t, "id")), Opened: t0(), KeyID: "a",
		HasCredentials: rapid.Bool().Draw(t, "credentials"),
	}}
	if rapid.Bool().Draw(t, "ticket") || !m.s.HasCredentials {
		m.s.PresentedTicket = Ticket{Opened: in(-pick("ticket's age", 0, time.Minute, 5*time.Hour, 7*time.Hour)), KeyID: "t"}
	}
	return m
}

func drawDecision(t *rapid.T) backends.Decision {
	return backends.Decision{
		Verdict:  backends.Verdict(rapid.IntRange(0, 2).Draw(t, "verdict")),
		Source:   backends.Source(rapid.IntRange(0, 8).Draw(t, "source")),
		ValidFor: rapid.SampledFrom([]time.Duration{0, -1, time.Nanosecond, time.Minute, 1 << 62}).Draw(t, "valid_for"),
	}
}

func (m *stateMachine) draw(t *rapid.T) any {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, 20 * time.Second, time.Hour}).Draw(t, "passes"))
	if rapid.Bool().Draw(t, "seen") {
		m.lastSeen = m.now
	}
	var err error
	if rapid.Bool().Draw(t, "nobody says") {
		err = timeout()
	}
	switch rapid.IntRange(0, 12).Draw(t, "event") {
	case 0:
		return OpenRequested{}
	case 1:
		if m.claim == NoLookup {
			return OpenRequested{}
		}
		return m.drawClaimed(t)
	case 2:
		number := m.s.CheckNumber - rapid.IntRange(0, 1).Draw(t, "older by")
		return BackendAnswered{Number: number, Decision: drawDecision(t), Err: err, Down: rapid.Bool().Draw(t, "down")}
	case 3:
		return WaitExpired{Fallback: drawDecision(t), Err: err}
	case 4:
		return TimerFired{LastSeen: m.lastSeen, Breaker: backends.BreakerState(rapid.IntRange(0, 2).Draw(t, "health"))}
	case 5:
		return RecheckGranted{}
	case 6:
		return CredentialsArrived{}
	case 7:
		return DecisionOutdated{}
	case 8:
		return LostInStore{}
	case 9:
		return MustReload{}
	case 10:
		return Unbanned{}
	case 11:
		r := Revoked{
			Kind:     RevocationKind(rapid.IntRange(1, 5).Draw(t, "revocation")),
			Decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromBan},
		}
		if rapid.Bool().Draw(t, "of older sessions") {
			r.Opened = in(-time.Hour)
		}
		return r
	default:
		return Restored{}
	}
}

// drawClaimed is what the store says to the claim that is on its way.
func (m *stateMachine) drawClaimed(t *rapid.T) LeaseAnswered {
	fence := func(name string) uint64 { return uint64(rapid.IntRange(0, 3).Draw(t, name)) }
	r := Record{
		Opened:   in(-rapid.SampledFrom([]time.Duration{0, time.Minute, 5 * time.Hour}).Draw(t, "record's age")),
		Decision: drawDecision(t), Expires: m.now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(t, "expires")),
		Revision: fence("record's number"),
	}
	if rapid.Bool().Draw(t, "facts") {
		r.Request = &backends.Request{}
	}
	if rapid.Bool().Draw(t, "buried") {
		r.RevokedBefore = in(-rapid.SampledFrom([]time.Duration{0, time.Minute, 6 * time.Hour}).Draw(t, "burial's age"))
	}
	if rapid.Bool().Draw(t, "kicked") {
		r.KickedUntil = m.now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(t, "kick"))
	}
	e := LeaseAnswered{
		Kind: m.claim, LeaseResult: LeaseResult{Record: r, Found: rapid.Bool().Draw(t, "found")},
		TimerFired: TimerFired{LastSeen: m.lastSeen, Breaker: backends.BreakerState(rapid.IntRange(0, 2).Draw(t, "health"))},
	}
	switch rapid.IntRange(0, 3).Draw(t, "how") {
	case 0:
		e.LeaseResult, e.Away = LeaseResult{}, true
	case 1:
		e.HeldElsewhere = true
	case 2:
		e.Revision = 4 + fence("lease")
	}
	if e.Found && rapid.Bool().Draw(t, "refused") {
		e.Refused = &backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit}
	}
	return e
}

// rebuild is what the shell does before it says that a session was rebuilt.
func (m *stateMachine) rebuild() {
	m.s = &State{
		Policy: m.s.Policy, ID: m.s.ID, HasCredentials: m.s.HasCredentials, Opened: m.s.Opened, KeyID: m.s.KeyID,
		CheckNumber: m.s.CheckNumber, Decision: m.s.Decision,
	}
}

func FuzzStepKeepsItsPromises(f *testing.F) { f.Fuzz(rapid.MakeFuzz(stepKeepsItsPromises)) }

func TestStepKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, stepKeepsItsPromises)
}

func stepKeepsItsPromises(t *rapid.T) {
	m := newStateMachine(t)
	for range rapid.IntRange(1, 40).Draw(t, "events") {
		e := m.draw(t)
		if _, ok := e.(Restored); ok {
			if !m.decided || m.s.Phase == closed {
				continue
			}
			m.rebuild()
			m.asked, m.queued, m.claim = false, false, NoLookup
		}
		before := *m.s
		got := m.s.Step(e, m.now)
		m.account(e, before, got)
		m.check(t, e, before, got)
	}
}

func (m *stateMachine) account(e any, before State, got Action) {
	switch e := e.(type) {
	case TimerFired:
		m.armed = false
	case RecheckGranted:
		m.queued = false
	case LeaseAnswered:
		m.claim = NoLookup
	case Revoked: // what was on its way does not count any more
		m.asked = m.asked && before.checkInFlight && m.s.checkInFlight
	case BackendAnswered:
		if e.Number == before.CheckNumber {
			m.asked = false
		}
	}
	if got.Lookup != NoLookup {
		m.claim = got.Lookup
	}
	m.armed = m.armed || !got.WakeAt.IsZero()
	m.queued = m.queued || got.Enqueue != NotQueued
	m.decided = m.decided || got.Publish
}

func (m *stateMachine) check(t *rapid.T, e any, before State, got Action) {
	promise := func(kept bool, what string) {
		if !kept {
			t.Fatalf("%s: %T %+v in phase %v at %v gave %+v, phase %v", what, e, e, before.Phase, m.now, got, m.s.Phase)
		}
	}
	promise(!got.StartCheck || !m.asked, "one check at a time")
	_, again := e.(OpenRequested) // a panic has it begin once more
	promise(got.Lookup == NoLookup || !before.lookupInFlight || again, "one claim at a time")
	promise(before.Phase == closed || got.ReturnSlot == (m.isTurn(e) && !got.StartCheck && got.Lookup == NoLookup), "a turn is used or given back")
	promise(before.LeaseRevision == 0 || m.s.LeaseRevision == before.LeaseRevision || got.ReleaseLease || got.Save || got.RevokeTicket || got.StartCheck, "no lease is forgotten")
	m.asked = m.asked || got.StartCheck
	promise(before.Phase != closed || m.s.Phase == closed && got == Action{}, "closed stays closed")
	promise((got.Close != NotClosing) == (m.s.Phase == closed && before.Phase != closed), "who closes says why")
	promise(got.WakeAt.IsZero() || !got.WakeAt.Before(m.now), "no timer in the past")
	promise(!got.Publish || m.s.Decision.Verdict != backends.Pending || m.s.Phase == undecided, "published decisions say yes or no")
	promise(!got.StartCheck || m.s.HasCredentials, "nobody is asked about nobody")
	promise(!got.RevokeTicket || m.s.Phase == denied && m.s.Decision.Source.IsAuthoritative(), "only somebody's no buries a ticket")
	if before.Phase == Allowed || before.Phase == Rechecking {
		promise(m.s.Decision.Verdict == backends.Allowed || m.mayDeny(e, before), "a viewer who watches is cut only by a no or the config")
	}
	switch m.s.Phase {
	case Allowed, denied, undecided:
		promise(m.armed, "whoever lives has a timer")
	case Rechecking:
		promise(m.armed, "whoever lives has a timer")
		promise(m.queued || m.asked || m.claim != NoLookup, "whoever is re-checked has a turn, a claim or a check to come")
	}
}

func (m *stateMachine) mayDeny(e any, before State) bool {
	switch e := e.(type) {
	case BackendAnswered:
		return e.Err == nil && e.Decision.Verdict == backends.Denied
	case Revoked:
		return e.Opened.IsZero() || !before.Opened.After(e.Opened)
	case LeaseAnswered:
		r := &e.Record
		return e.Found && (m.now.Before(r.KickedUntil) || !before.Opened.After(r.RevokedBefore) || e.Refused != nil ||
			r.Decision.Verdict == backends.Denied && r.Decision.Source.IsAuthoritative() && r.Revision > before.Revision) || m.tokenEnds()
	case TimerFired, RecheckGranted:
		return m.tokenEnds()
	default:
		return false
	}
}

// tokenEnds says that the config denies whoever's token is too old.
func (m *stateMachine) tokenEnds() bool {
	return m.s.ExpiredToken == backends.DenyOnExpiredToken && m.s.TokenLife > 0
}

// isTurn says that the event is a turn of the pacer's, or what the store said to one.
func (m *stateMachine) isTurn(e any) bool {
	c, isClaim := e.(LeaseAnswered)
	_, isTurn := e.(RecheckGranted)
	return isTurn || isClaim && c.Kind == LookupForRecheck
}
