package actors

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/backends"
)

// stateMachine drives a session as its shell does, with any order of events, and keeps account of what is on its way.
type stateMachine struct {
	s        *session
	now      time.Time
	lastSeen time.Time
	armed    bool      // a timer is set
	queued   bool      // a turn was asked for
	asked    bool      // a check is on its way
	decided  bool      // something was published
	claim    claimKind // what the store was asked for and has not said yet
}

func newStateMachine(t *rapid.T) *stateMachine {
	pick := func(name string, of ...time.Duration) time.Duration { return rapid.SampledFrom(of).Draw(t, name) }
	r := plainRules()
	r.validity = pick("validity", 0, 10*time.Second, 3*time.Minute, 10*time.Hour)
	r.tokenLife = pick("token_life", 0, 5*time.Second, time.Hour)
	r.expiredToken = rapid.SampledFrom([]ExpiredTokenPolicy{KeepOnExpiredToken, DenyOnExpiredToken}).Draw(t, "on_expired_token")
	r.jitter = rapid.SampledFrom([]float64{0, 0.1}).Draw(t, "jitter")
	r.shared = rapid.Bool().Draw(t, "shared")
	r.reviveDenied = rapid.Bool().Draw(t, "revive_denied")
	m := &stateMachine{now: t0(), lastSeen: t0(), s: &session{
		rules: r, id: idOf(rapid.IntRange(0, 99).Draw(t, "id")), opened: t0(), key: "a",
		hasFacts: rapid.Bool().Draw(t, "credentials"),
	}}
	if rapid.Bool().Draw(t, "ticket") || !m.s.hasFacts {
		m.s.presented = backends.Ticket{Opened: in(-pick("ticket's age", 0, time.Minute, 5*time.Hour, 7*time.Hour)), Key: "t"}
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
		return opened{}
	case 1:
		if m.claim == noClaim {
			return opened{}
		}
		return m.drawClaimed(t)
	case 2:
		number := m.s.check - rapid.IntRange(0, 1).Draw(t, "older by")
		return backendAnswered{number: number, decision: drawDecision(t), err: err, down: rapid.Bool().Draw(t, "down")}
	case 3:
		return answerOverdue{instead: drawDecision(t), err: err}
	case 4:
		return timerFired{lastSeen: m.lastSeen, health: backends.BreakerState(rapid.IntRange(0, 2).Draw(t, "health"))}
	case 5:
		return turnCame{}
	case 6:
		return credentialsCame{}
	case 7:
		return overtaken{}
	case 8:
		return forgotten{}
	case 9:
		return doubted{}
	case 10:
		return pardoned{}
	case 11:
		r := revoked{
			kind:     backends.RevocationKind(rapid.IntRange(1, 5).Draw(t, "revocation")),
			decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromBan},
		}
		if rapid.Bool().Draw(t, "of older sessions") {
			r.opened = in(-time.Hour)
		}
		return r
	default:
		return rebuilt{}
	}
}

// drawClaimed is what the store says to the claim that is on its way.
func (m *stateMachine) drawClaimed(t *rapid.T) claimed {
	fence := func(name string) uint64 { return uint64(rapid.IntRange(0, 3).Draw(t, name)) }
	r := backends.Record{
		Opened:   in(-rapid.SampledFrom([]time.Duration{0, time.Minute, 5 * time.Hour}).Draw(t, "record's age")),
		Decision: drawDecision(t), Expires: m.now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(t, "expires")),
		Fence: fence("record's number"),
	}
	if rapid.Bool().Draw(t, "facts") {
		r.Facts = &backends.Request{}
	}
	if rapid.Bool().Draw(t, "buried") {
		r.Buried = in(-rapid.SampledFrom([]time.Duration{0, time.Minute, 6 * time.Hour}).Draw(t, "burial's age"))
	}
	if rapid.Bool().Draw(t, "kicked") {
		r.Kicked = m.now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(t, "kick"))
	}
	e := claimed{
		kind: m.claim, Claimed: backends.Claimed{Record: r, Found: rapid.Bool().Draw(t, "found")},
		timerFired: timerFired{lastSeen: m.lastSeen, health: backends.BreakerState(rapid.IntRange(0, 2).Draw(t, "health"))},
	}
	switch rapid.IntRange(0, 3).Draw(t, "how") {
	case 0:
		e.Claimed, e.away = backends.Claimed{}, true
	case 1:
		e.Asking = true
	case 2:
		e.Fence = 4 + fence("lease")
	}
	if e.Found && rapid.Bool().Draw(t, "refused") {
		e.refused = &backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit}
	}
	return e
}

// rebuild is what the shell does before it says that a session was rebuilt.
func (m *stateMachine) rebuild() {
	m.s = &session{
		rules: m.s.rules, id: m.s.id, hasFacts: m.s.hasFacts, opened: m.s.opened, key: m.s.key,
		check: m.s.check, decision: m.s.decision,
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
		if _, ok := e.(rebuilt); ok {
			if !m.decided || m.s.phase == closed {
				continue
			}
			m.rebuild()
			m.asked, m.queued, m.claim = false, false, noClaim
		}
		before := *m.s
		got := m.s.step(e, m.now)
		m.account(e, before, got)
		m.check(t, e, before, got)
	}
}

func (m *stateMachine) account(e any, before session, got action) {
	switch e := e.(type) {
	case timerFired:
		m.armed = false
	case turnCame:
		m.queued = false
	case claimed:
		m.claim = noClaim
	case revoked: // what was on its way does not count any more
		m.asked = m.asked && before.asking && m.s.asking
	case backendAnswered:
		if e.number == before.check {
			m.asked = false
		}
	}
	if got.claim != noClaim {
		m.claim = got.claim
	}
	m.armed = m.armed || !got.wake.IsZero()
	m.queued = m.queued || got.queue != noLane
	m.decided = m.decided || got.publish
}

func (m *stateMachine) check(t *rapid.T, e any, before session, got action) {
	promise := func(kept bool, what string) {
		if !kept {
			t.Fatalf("%s: %T %+v in phase %v at %v gave %+v, phase %v", what, e, e, before.phase, m.now, got, m.s.phase)
		}
	}
	promise(!got.ask || !m.asked, "one check at a time")
	_, again := e.(opened) // a panic has it begin once more
	promise(got.claim == noClaim || !before.claiming || again, "one claim at a time")
	promise(before.phase == closed || got.refund == (m.isTurn(e) && !got.ask && got.claim == noClaim), "a turn is used or given back")
	promise(before.lease == 0 || m.s.lease == before.lease || got.release || got.save || got.bury || got.ask, "no lease is forgotten")
	m.asked = m.asked || got.ask
	promise(before.phase != closed || m.s.phase == closed && got == action{}, "closed stays closed")
	promise((got.ending != notEnding) == (m.s.phase == closed && before.phase != closed), "who closes says why")
	promise(got.wake.IsZero() || !got.wake.Before(m.now), "no timer in the past")
	promise(!got.publish || m.s.decision.Verdict != backends.Undecided || m.s.phase == undecided, "published decisions say yes or no")
	promise(!got.ask || m.s.hasFacts, "nobody is asked about nobody")
	promise(!got.bury || m.s.phase == denied && m.s.decision.Source.Asked(), "only somebody's no buries a ticket")
	if before.phase == allowed || before.phase == rechecking {
		promise(m.s.decision.Verdict == backends.Allowed || m.mayDeny(e, before), "a viewer who watches is cut only by a no or the config")
	}
	switch m.s.phase {
	case allowed, denied, undecided:
		promise(m.armed, "whoever lives has a timer")
	case rechecking:
		promise(m.armed, "whoever lives has a timer")
		promise(m.queued || m.asked || m.claim != noClaim, "whoever is re-checked has a turn, a claim or a check to come")
	}
}

func (m *stateMachine) mayDeny(e any, before session) bool {
	switch e := e.(type) {
	case backendAnswered:
		return e.err == nil && e.decision.Verdict == backends.Denied
	case revoked:
		return e.opened.IsZero() || !before.opened.After(e.opened)
	case claimed:
		r := &e.Record
		return e.Found && (m.now.Before(r.Kicked) || !before.opened.After(r.Buried) || e.refused != nil ||
			r.Decision.Verdict == backends.Denied && r.Decision.Source.Asked() && r.Fence > before.fence) || m.tokenEnds()
	case timerFired, turnCame:
		return m.tokenEnds()
	default:
		return false
	}
}

// tokenEnds says that the config denies whoever's token is too old.
func (m *stateMachine) tokenEnds() bool {
	return m.s.expiredToken == DenyOnExpiredToken && m.s.tokenLife > 0
}

// isTurn says that the event is a turn of the pacer's, or what the store said to one.
func (m *stateMachine) isTurn(e any) bool {
	c, isClaim := e.(claimed)
	_, isTurn := e.(turnCame)
	return isTurn || isClaim && c.kind == turnClaim
}
