package session

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/backends"
)

// model drives a session as its shell does, with any order of events, and keeps account of what is in flight for it.
type model struct {
	*testSession
	now       time.Time
	lastSeen  time.Time
	ticket    Ticket
	published *backends.Decision
	isArmed   bool         // a timer is set
	queued    int          // how often the session is in the queue for a slot
	slots     int          // slots that are neither used nor returned
	lookups   []LookupKind // what the store was asked for and has not answered
	checks    map[int]bool // numbers of the checks that have not ended
}

func newModel(t *rapid.T) *model {
	pick := func(name string, of ...time.Duration) time.Duration { return rapid.SampledFrom(of).Draw(t, name) }
	p := plainPolicy()
	p.Validity = pick("validity", 0, 10*time.Second, 3*time.Minute, 10*time.Hour)
	p.TokenLife = pick("token_life", 0, 5*time.Second, time.Hour)
	p.ExpiredToken = rapid.SampledFrom([]ExpiredTokenPolicy{keepOnExpiredToken, denyOnExpiredToken}).Draw(t, "on_expired_token")
	p.Jitter = rapid.SampledFrom([]float64{0, 0.1}).Draw(t, "jitter")
	p.Shared = rapid.Bool().Draw(t, "shared")
	p.ReviveDenied = rapid.Bool().Draw(t, "revive_denied")
	o := Origin{
		ID: idOf(rapid.IntRange(0, 99).Draw(t, "id")), Opened: t0(), KeyID: "a",
		HasCredentials: rapid.Bool().Draw(t, "credentials"), ExtraLifetime: pick("extra_lifetime", 0, time.Minute),
	}
	if rapid.Bool().Draw(t, "sibling") {
		o.RootOpened = in(-pick("root's age", 0, time.Minute, 7*time.Hour))
	}
	if o.HasCredentials && rapid.Bool().Draw(t, "denied before") {
		o.Denial = new(no())
	}
	m := &model{testSession: &testSession{State: NewState(o), policy: p}, now: t0(), lastSeen: t0(), checks: map[int]bool{}}
	if rapid.Bool().Draw(t, "ticket") || !o.HasCredentials {
		m.ticket = Ticket{Opened: in(-pick("ticket's age", 0, time.Minute, 5*time.Hour, 7*time.Hour)), KeyID: "t"}
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

// draw returns the next event; nil: none.
func (m *model) draw(t *rapid.T) Event {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, 20 * time.Second, time.Hour}).Draw(t, "passes"))
	if rapid.Bool().Draw(t, "seen") {
		m.lastSeen = m.now
	}
	switch rapid.IntRange(0, 12).Draw(t, "event") {
	case 0:
		if rapid.Bool().Draw(t, "with a ticket") {
			return OpenRequested{Ticket: m.ticket}
		}
		return OpenRequested{}
	case 1:
		if len(m.lookups) == 0 {
			return OpenRequested{}
		}
		return m.drawLeaseAnswered(t)
	case 2:
		number := int(m.CheckNumber) - rapid.IntRange(0, 1).Draw(t, "older by")
		return &BackendAnswered{Number: number, Decision: drawDecision(t), IsBackendDown: rapid.Bool().Draw(t, "down"), IsFailure: rapid.Bool().Draw(t, "failure")}
	case 3:
		return WaitExpired{Fallback: drawDecision(t), Ticket: m.ticket, IsFailure: rapid.Bool().Draw(t, "failure")}
	case 4:
		return m.drawTimerFired(t)
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
		return Forgotten{IsReplaced: rapid.Bool().Draw(t, "replaced")}
	case 11:
		return drawRevoked(t)
	default:
		if m.published == nil || m.phase == closed {
			return nil
		}
		return Restored{Decision: *m.published}
	}
}

func drawRevoked(t *rapid.T) Revoked {
	r := Revoked{
		Kind:     RevocationKind(rapid.IntRange(1, 5).Draw(t, "revocation")),
		Decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromBan},
	}
	if rapid.Bool().Draw(t, "of older sessions") {
		r.Opened = in(-time.Hour)
	}
	return r
}

func (m *model) drawTimerFired(t *rapid.T) TimerFired {
	e := TimerFired{LastSeen: m.lastSeen, Breaker: backends.BreakerState(rapid.IntRange(0, 2).Draw(t, "breaker")), IsImpaired: rapid.Bool().Draw(t, "impaired")}
	if e.Breaker != backends.BreakerClosed {
		e.Fallback = rapid.SampledFrom([]backends.Decision{
			{}, cached(), letIn(), refusedByPolicy(), local(backends.Allowed), local(backends.Denied),
		}).Draw(t, "fallback")
	}
	return e
}

// drawLeaseAnswered returns the store's answer to one of the lookups in flight.
func (m *model) drawLeaseAnswered(t *rapid.T) *LeaseAnswered {
	revision := func(name string) uint64 { return uint64(rapid.IntRange(0, 3).Draw(t, name)) }
	r := Record{
		Opened:   in(-rapid.SampledFrom([]time.Duration{0, time.Minute, 5 * time.Hour}).Draw(t, "record's age")),
		Decision: drawDecision(t), Expires: m.now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(t, "expires")),
		Revision: revision("record's revision"),
	}
	if rapid.Bool().Draw(t, "request") {
		r.Request = &backends.Request{}
	}
	if rapid.Bool().Draw(t, "ticket revoked") {
		r.RevokedBefore = in(-rapid.SampledFrom([]time.Duration{0, time.Minute, 6 * time.Hour}).Draw(t, "revocation's age"))
	}
	e := &LeaseAnswered{
		Kind: rapid.SampledFrom(m.lookups).Draw(t, "lookup"), LeaseResult: LeaseResult{Record: r, Found: rapid.Bool().Draw(t, "found")},
		Ticket: m.ticket, Timer: m.drawTimerFired(t), Denied: rapid.SampledFrom([]time.Time{{}, m.Opened()}).Draw(t, "denied opening"),
	}
	switch rapid.IntRange(0, 3).Draw(t, "how") {
	case 0:
		e.LeaseResult, e.IsUnavailable = LeaseResult{}, true
	case 1:
		e.HeldElsewhere = true
	case 2:
		e.Revision = 4 + revision("lease")
	}
	if m.isSibling() && !e.IsUnavailable {
		e.IsRootAllowed, e.HasRootFacts = rapid.Bool().Draw(t, "root allowed"), rapid.Bool().Draw(t, "root's facts")
		e.IsRootDenied = !e.IsRootAllowed && rapid.Bool().Draw(t, "root denied")
		e.Overload = rapid.SampledFrom([]string{"", "a bound"}).Draw(t, "bound")
	}
	if e.Found && rapid.Bool().Draw(t, "refused") {
		e.Refused = &backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit}
	}
	return e
}

// restore is what the shell does before it reports that a session was restored. What is in flight still ends, but a slot is
// lost with the state that held it.
func (m *model) restore() {
	var rootOpened time.Time
	if m.isSibling() {
		rootOpened = time.Unix(int64(m.rootOpened), 0)
	}
	m.State = NewState(Origin{
		ID: m.ID, Opened: m.Opened(), KeyID: m.KeyID, HasCredentials: m.HasCredentials, ExtraLifetime: time.Duration(m.extraLifetime) * time.Millisecond,
		CheckNumber: int(m.CheckNumber), RootOpened: rootOpened,
	})
	m.isArmed, m.slots = false, 0
}

func FuzzStep_KeepsItsInvariants(f *testing.F) { f.Fuzz(rapid.MakeFuzz(stepKeepsItsInvariants)) }

func TestStep_KeepsItsInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, stepKeepsItsInvariants)
}

func stepKeepsItsInvariants(t *rapid.T) {
	m := newModel(t)
	for range rapid.IntRange(1, 40).Draw(t, "events") {
		e := m.draw(t)
		if e == nil {
			continue
		}
		if _, isRestored := e.(Restored); isRestored {
			m.restore()
		}
		before := m.State
		got := m.Step(m.policy, e, m.now)
		m.account(e, before, got)
		must := func(isKept bool, invariant string) {
			if !isKept {
				t.Fatalf("%s: %T %+v in phase %v at %v gave %+v, phase %v", invariant, e, e, before.phase, m.now, got, m.phase)
			}
		}
		m.checkAction(must, e, before, got)
		m.checkDecision(must, e, before, got)
		m.checkLease(must, e, before, got)
		m.checkInFlight(must)
	}
}

func (m *model) account(e Event, before State, got Action) {
	usesSlot := got.StartCheck && before.phase == recheckLeasing
	switch e := e.(type) {
	case TimerFired:
		m.isArmed = false
	case RecheckGranted:
		m.queued, m.slots = max(0, m.queued-1), m.slots+1
		usesSlot = got.StartCheck
	case *LeaseAnswered:
		i := slices.Index(m.lookups, e.Kind)
		m.lookups = slices.Delete(m.lookups, i, i+1)
	case *BackendAnswered:
		delete(m.checks, e.Number)
	}
	if got.ReturnSlot {
		m.slots--
	}
	if usesSlot {
		m.slots--
	}
	if got.Lookup != NoLookup {
		m.lookups = append(m.lookups, got.Lookup)
	}
	if got.StartCheck {
		m.checks[int(m.CheckNumber)] = true
	}
	if got.Enqueue != NotQueued {
		m.queued++
	}
	if got.Publish {
		m.published = &backends.Decision{}
		*m.published = m.Decision
	}
	m.isArmed = m.isArmed || !got.WakeAt.IsZero()
}

func (m *model) checkAction(must func(bool, string), e Event, before State, got Action) {
	_, isAnswer := e.(*LeaseAnswered)
	must(!got.StartCheck || !before.phase.hasCheckInFlight(), "one check at a time")
	must(!got.StartCheck || m.phase.hasCheckInFlight(), "a check is in flight once it starts")
	must(!got.StartCheck || m.HasCredentials, "no check without credentials")
	must(got.Lookup == NoLookup || lookupOf(before.phase) == nil || isAnswer, "one lookup at a time")
	must(got.Lookup == NoLookup || slices.Contains(lookupOf(m.phase), got.Lookup), "a lookup is in flight once it starts")
	must(got.Enqueue == NotQueued || m.phase == recheckQueued || m.phase == recheckLooking, "a session is queued once it is enqueued")
	must((got.Close != NotClosing) == (m.phase == closed && before.phase != closed), "a session closes for a reason")
	must(got.WakeAt.IsZero() || !got.WakeAt.Before(m.now), "no timer in the past")
	if before.phase == closed {
		got.ReturnSlot, got.ReleaseLease, got.Revision = false, false, 0
		must(m.phase == closed && got == Action{}, "a closed session only returns what it is given")
	}
}

func (m *model) checkDecision(must func(bool, string), e Event, before State, got Action) {
	isRetry := m.phase == retryLater || m.phase == retryLaterChecking
	must(!got.Publish || m.Decision.Verdict != backends.Pending || isRetry, "a published decision is allowed or denied")
	must(!got.RevokeTicket || m.phase == deniedRemembered && m.Decision.Source.IsAuthoritative(), "only an authoritative no revokes a ticket")
	must(!m.phase.isAllowed() || m.Decision.Verdict == backends.Allowed, "a viewer who watches is allowed")
	must(!m.phase.isDenied() || m.Decision.Verdict == backends.Denied, "a viewer who is remembered as denied is denied")
	if before.opensDenied() {
		found, isLookup := e.(*LeaseAnswered)
		isSpared := isLookup && found.Denied.After(m.ticket.Opened) && m.ticket.Opened.After(found.Record.RevokedBefore)
		must(!m.phase.isAllowed() || m.Decision.Source.IsAuthoritative() || isSpared, "a viewer who was denied is admitted only by an answer")
		must(!isRetry, "a viewer who was denied stays so without an answer")
	}
	if before.phase.isAllowed() {
		must(m.Decision.Verdict == backends.Allowed || m.mayDeny(e, before), "a viewer who watches is cut only by a denial or the config")
	}
}

// checkLease checks that each lease is kept for the check in flight, or ends with a write under its revision.
func (m *model) checkLease(must func(bool, string), e Event, before State, got Action) {
	ends := func(lease uint64) bool {
		return got.Revision == lease && (got.ReleaseLease || got.Save || got.RevokeTicket)
	}
	must(m.LeaseRevision == 0 || m.phase.hasCheckInFlight(), "a lease is held for a check")
	must(before.LeaseRevision == 0 || m.LeaseRevision == before.LeaseRevision || ends(before.LeaseRevision), "no lease is forgotten")
	if answered, ok := e.(*LeaseAnswered); ok && answered.Revision != 0 {
		must(got.StartCheck && m.LeaseRevision == answered.Revision || ends(answered.Revision), "a lease that is granted is used or released")
	}
}

// checkInFlight checks that what the phase says is in flight is, so that each session has something that continues it.
func (m *model) checkInFlight(must func(bool, string)) {
	held := 0
	if m.phase == recheckLeasing {
		held = 1
	}
	must(m.slots == held, "a slot is held while the lease is asked for, and else used or returned")
	must(m.isArmed || m.phase.isOpening() || m.phase == closed, "a session has a timer once it has a decision")
	must(!m.phase.hasCheckInFlight() || m.checks[int(m.CheckNumber)], "a session that waits for a check has one")
	must((m.phase != recheckQueued && m.phase != recheckLooking) || m.queued > 0, "a session that waits for a slot is in the queue")
	if kinds := lookupOf(m.phase); kinds != nil {
		must(slices.ContainsFunc(m.lookups, func(k LookupKind) bool { return slices.Contains(kinds, k) }), "a session that waits for the store has asked it")
	}
}

// lookupOf returns the lookups one of which a session waits for in that phase; nil: it waits for none.
func lookupOf(p phase) []LookupKind {
	switch p {
	case openingLeasing:
		return []LookupKind{LookupForOpening}
	case allowedLooking, recheckLooking, recheckSlotMissed:
		return []LookupKind{LookupOnly, LookupForOpening}
	case recheckLeasing:
		return []LookupKind{LookupForRecheck}
	default:
		return nil
	}
}

func (m *model) mayDeny(e Event, before State) bool {
	switch e := e.(type) {
	case *BackendAnswered:
		return e.Decision.Verdict == backends.Denied
	case Revoked:
		return e.Opened.IsZero() || !before.Opened().After(e.Opened)
	case *LeaseAnswered:
		r := &e.Record
		return e.Found && (!before.Opened().After(r.RevokedBefore) || e.Refused != nil ||
			r.Decision.Verdict == backends.Denied && r.Decision.Source.IsAuthoritative() && r.Revision > before.Revision) ||
			e.Timer.Fallback.Verdict == backends.Denied || m.mayTokenDeny()
	case TimerFired:
		return e.Fallback.Verdict == backends.Denied || m.mayTokenDeny()
	case RecheckGranted:
		return m.mayTokenDeny()
	default:
		return false
	}
}

// mayTokenDeny reports whether the config denies a session whose token is too old.
func (m *model) mayTokenDeny() bool {
	return m.policy.ExpiredToken == denyOnExpiredToken && m.policy.TokenLife > 0
}
