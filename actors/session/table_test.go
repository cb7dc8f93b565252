package session

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/backends"
)

// row is one event in one phase, and what must follow from it.
type row struct {
	story string
	phase phase
	event Event
	next  phase
	want  Action
	given func(*testSession) // changes the session first; nil: nothing
}

// inEach returns the row of each of the phases. A next phase of stay leaves the phase as it is.
func inEach(story string, phases []phase, event Event, next phase, want Action) []row {
	var rows []row
	for _, p := range phases {
		r := row{story: story, phase: p, event: event, next: next, want: want}
		if next == stay {
			r.next = p
		}
		rows = append(rows, r)
	}
	return rows
}

const stay phase = 255

// allBut returns all phases but those.
func allBut(but ...phase) (phases []phase) {
next:
	for p := openingNew; p <= closed; p++ {
		for _, b := range but {
			if p == b {
				continue next
			}
		}
		phases = append(phases, p)
	}
	return phases
}

// tableRows holds at least one row for each pair of phase and event.
func tableRows() (rows []row) {
	for _, part := range [][]row{
		openRows(), lookupRows(), unaskedLookupRows(), answerRows(), waitRows(), timerRows(), slotRows(), credentialRows(),
		storeRows(), revocationRows(), restoreRows(), siblingRows(),
	} {
		rows = append(rows, part...)
	}
	return rows
}

func openRows() []row {
	old := OpenRequested{Ticket: Ticket{Opened: in(-time.Hour), KeyID: "a"}}
	spent := func(edit func(*testSession)) func(*testSession) {
		return func(s *testSession) {
			s.policy.TokenLife = 5 * time.Second
			if edit != nil {
				edit(s)
			}
		}
	}
	byRule := func(edit func(*testSession)) func(*testSession) {
		return func(s *testSession) {
			s.Decision.Source = backends.FromLocal
			if edit != nil {
				edit(s)
			}
		}
	}
	shown := Action{Publish: true}
	rows := append(
		inEach("only a new session is looked up", allBut(openingNew), OpenRequested{}, stay, Action{}),
		inEach("a ticket opens no session that is decided", allBut(openingNew, openingLeasing, openingChecking, closed), old, stay, shown)...,
	)
	rows = append(rows, inEach("a ticket opens no session twice", []phase{openingLeasing, openingChecking, closed}, old, stay, Action{})...)
	return append(rows, []row{
		{story: "an opening looks the session up", event: OpenRequested{}, next: openingLeasing, want: Action{Lookup: LookupForOpening}},
		{
			story: "a ticket opens a session again whose token had died", phase: deniedRemembered, event: old, next: openingLeasing,
			given: spent(nil), want: Action{Lookup: LookupForOpening},
		},
		{
			story: "a ticket does so once", phase: deniedRemembered, next: deniedRemembered, given: spent(nil), want: shown,
			event: OpenRequested{Ticket: old.Ticket, IsRepeated: true},
		},
		{
			story: "a ticket as young as the token does not", phase: deniedRemembered, next: deniedRemembered, given: spent(nil), want: shown,
			event: OpenRequested{Ticket: Ticket{Opened: in(-time.Second), KeyID: "a"}},
		},
		{
			story: "a ticket exactly as old as the token may be does not", phase: deniedRemembered, next: deniedRemembered, given: spent(nil), want: shown,
			event: OpenRequested{Ticket: Ticket{Opened: in(-5 * time.Second), KeyID: "a"}},
		},
		{
			story: "a ticket that is too old does not", phase: deniedRemembered, next: deniedRemembered, given: spent(nil), want: shown,
			event: OpenRequested{Ticket: Ticket{Opened: in(-7 * time.Hour), KeyID: "a"}},
		},
		{
			story: "a ticket opens a session again that a rule has denied", phase: deniedRemembered, event: old, next: openingLeasing,
			given: byRule(nil), want: Action{Lookup: LookupForOpening},
		},
		{
			story: "so it does where the policy wants an answer", phase: deniedRemembered, event: old, next: openingLeasing,
			given: byRule(revivalDenied), want: Action{Lookup: LookupForOpening},
		},
		{
			story: "a ticket that is too old for a rule does not", phase: deniedRemembered, next: deniedRemembered, given: byRule(nil), want: shown,
			event: OpenRequested{Ticket: Ticket{Opened: in(-7 * time.Hour), KeyID: "a"}},
		},
		{
			story: "a ticket of a session that was denied while it ran does not", phase: deniedRemembered, event: old, next: deniedRemembered,
			given: spent(func(s *testSession) { s.WasAllowed = true }), want: shown,
		},
		{
			story: "a ticket does not where an expired token denies", phase: deniedRemembered, event: old, next: deniedRemembered,
			given: spent(func(s *testSession) { s.policy.ExpiredToken = denyOnExpiredToken }), want: shown,
		},
		{
			story: "a ticket does not where the policy wants an answer", phase: deniedRemembered, event: old, next: deniedRemembered,
			given: spent(func(s *testSession) { s.policy.ReviveDenied = true }), want: shown,
		},
		{
			story: "a ticket does not help against a ban", phase: deniedRemembered, event: old, next: deniedRemembered,
			given: spent(func(s *testSession) { s.Decision.Source = backends.FromBan }), want: shown,
		},
	}...)
}

func lookupRows() []row {
	found := &LeaseAnswered{Kind: LookupOnly, LeaseResult: LeaseResult{Found: true}, Timer: TimerFired{LastSeen: t0()}}
	lost, held, kicked, newer := new(*found), new(*found), new(*found), new(*found)
	lost.Found, held.HeldElsewhere = false, true
	lostAndHeld := new(*held)
	lostAndHeld.Found = false
	kicked.Refused = &backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator}
	kickedOpening := remembered(Record{RevokedBefore: in(0)}) // its ticket is revoked as well
	kickedOpening.Refused = kicked.Refused
	newer.Record.Revision, newer.Record.Decision, newer.Record.Expires = 3, yes(), in(time.Hour)
	newerNo := new(*newer)
	newerNo.Record.Decision = no()
	unsure := &LeaseAnswered{Kind: LookupForOpening, MayBeBanned: true, Ticket: Ticket{Opened: t0(), KeyID: "a"}}
	due := func(e *LeaseAnswered, revision uint64) *LeaseAnswered {
		e = new(*e)
		e.Kind, e.Revision = LookupForRecheck, revision
		return e
	}
	idle := Action{WakeAt: in(time.Minute)}
	wait := Action{WakeAt: in(time.Second)}
	queued := Action{Enqueue: PriorityOverdue, WakeAt: in(time.Minute)}
	kick := Action{Publish: true, WakeAt: in(15 * time.Second)}
	slotBack := kick
	slotBack.ReturnSlot = true
	take := Action{Publish: true, Revision: 3, WakeAt: in(time.Minute)}
	takeSlotBack := take
	takeSlotBack.ReturnSlot = true
	again := func(s *testSession) { s.mustLookAgain = true }
	spent := &LeaseAnswered{Kind: LookupForOpening, Ticket: Ticket{Opened: in(-time.Hour), KeyID: "a"}, Denied: t0()}
	concerned, revoked := new(*spent), new(*spent)
	concerned.Denied, revoked.Record.RevokedBefore = time.Time{}, in(-time.Minute)
	life := tokenLives(time.Minute)
	return []row{
		{
			story: "a spent token's ticket admits a viewer whom a later opening denied", phase: openingLeasing, event: spent, next: allowedFresh,
			given: wasDenied(life), want: Action{Publish: true, Save: true, WakeAt: in(time.Minute)},
		},
		{story: "a spent token's ticket that was denied is checked", phase: openingLeasing, event: concerned, next: openingChecking, given: wasDenied(life), want: Action{StartCheck: true}},
		{story: "so is one that was revoked", phase: openingLeasing, event: revoked, next: openingChecking, given: wasDenied(life), want: Action{StartCheck: true}},
		{
			story: "a viewer who was denied is not admitted by ticket alone", phase: openingLeasing, event: siblingOpening(nil), next: deniedRemembered,
			given: wasDenied(asSibling(time.Hour)), want: kick,
		},
		{story: "a look that finds a lease and no session stores it", phase: allowedLooking, event: lostAndHeld, next: allowedFresh, want: Action{Save: true, WakeAt: in(time.Second)}},
		{story: "a queued session that finds a lease and no session stores it", phase: recheckLooking, event: lostAndHeld, next: recheckQueued, want: Action{Save: true, WakeAt: in(time.Second)}},
		{
			story: "a look during which a reload came is made again", phase: allowedLooking, event: found, next: allowedLooking, given: again,
			want: Action{Lookup: LookupOnly, WakeAt: in(time.Minute)},
		},
		{
			story: "a queued session's look during which a reload came is made again", phase: recheckLooking, event: found, next: recheckLooking, given: again,
			want: Action{Lookup: LookupOnly, WakeAt: in(time.Minute)},
		},
		{
			story: "a session that missed its slot looks again and is queued", phase: recheckSlotMissed, event: found, next: recheckLooking, given: again,
			want: Action{Lookup: LookupOnly, Enqueue: PriorityOverdue, WakeAt: in(time.Minute)},
		},
		{story: "a kicked session does not look again", phase: allowedLooking, event: kicked, next: deniedRemembered, given: again, want: kick},
		{story: "an opening without a record is checked", phase: openingLeasing, event: &LeaseAnswered{Kind: LookupForOpening}, next: openingChecking, want: Action{StartCheck: true}},
		{story: "an opening of a kicked session is refused", phase: openingLeasing, event: kickedOpening, next: deniedRemembered, want: kick},
		{
			story: "a ticket alone admits nobody before all bans are known", phase: openingLeasing, event: unsure, next: retryLater,
			given: byTicketAlone, want: Action{Publish: true, WakeAt: in(time.Second)},
		},
		{story: "credentials are checked before all bans are known", phase: openingLeasing, event: unsure, next: openingChecking, want: Action{StartCheck: true}},
		{story: "a session that a ban refused and the store lost is refused", phase: openingLeasing, event: &LeaseAnswered{Kind: LookupForOpening, Refused: new(no())}, next: deniedRemembered, want: kick},
		{story: "a look that finds nothing new", phase: allowedLooking, event: found, next: allowedFresh, want: idle},
		{story: "a look that finds nothing stores the session again", phase: allowedLooking, event: lost, next: allowedFresh, want: Action{Save: true, WakeAt: in(time.Minute)}},
		{story: "a look that finds a check elsewhere waits for it", phase: allowedLooking, event: held, next: allowedFresh, want: wait},
		{story: "a look that finds a kick", phase: allowedLooking, event: kicked, next: deniedRemembered, want: kick},
		{story: "a look that finds a newer decision", phase: allowedLooking, event: newer, next: allowedFresh, want: take},
		{story: "a queued session that finds nothing new waits on", phase: recheckLooking, event: found, next: recheckQueued, want: idle},
		{story: "a queued session that finds a check elsewhere stays queued", phase: recheckLooking, event: held, next: recheckQueued, want: wait},
		{story: "a queued session that finds a kick", phase: recheckLooking, event: kicked, next: deniedRemembered, want: kick},
		{story: "a queued session that finds a newer decision", phase: recheckLooking, event: newer, next: allowedFresh, want: take},
		{story: "a session that missed its slot is queued again", phase: recheckSlotMissed, event: found, next: recheckQueued, want: queued},
		{
			story: "a session that missed its slot is queued again, also if a check runs elsewhere", phase: recheckSlotMissed, event: held, next: recheckQueued,
			want: Action{Enqueue: PriorityOverdue, WakeAt: in(time.Second)},
		},
		{story: "a session that missed its slot is kicked", phase: recheckSlotMissed, event: kicked, next: deniedRemembered, want: kick},
		{story: "a session that missed its slot takes a newer decision", phase: recheckSlotMissed, event: newer, next: allowedFresh, want: take},
		{story: "a re-check with a lease is made", phase: recheckLeasing, event: due(found, 7), next: recheckChecking, want: Action{StartCheck: true}},
		{story: "a re-check without a lease is made", phase: recheckLeasing, event: due(&LeaseAnswered{IsUnavailable: true}, 0), next: recheckChecking, want: Action{StartCheck: true}},
		{story: "a re-check of a kicked session returns its slot", phase: recheckLeasing, event: due(kicked, 0), next: deniedRemembered, want: slotBack},
		{story: "a re-check that another node made returns its slot", phase: recheckLeasing, event: due(newer, 0), next: allowedFresh, want: takeSlotBack},
	}
}

func unaskedLookupRows() []row {
	looking := []phase{openingLeasing, allowedLooking, recheckLooking, recheckSlotMissed, recheckLeasing}
	rows := inEach("an answer to no lookup changes nothing", allBut(looking...), &LeaseAnswered{Kind: LookupForOpening}, stay, Action{})
	rows = append(rows, inEach("a lease that is not needed is released", allBut(looking...),
		&LeaseAnswered{Kind: LookupForRecheck, LeaseResult: LeaseResult{Revision: 7}}, stay, Action{ReleaseLease: true, Revision: 7})...)
	rows = append(rows, inEach("a lookup is not answered by an older re-check's", looking[:4],
		&LeaseAnswered{Kind: LookupForRecheck, LeaseResult: LeaseResult{Revision: 7}}, stay, Action{ReleaseLease: true, Revision: 7})...)
	return append(rows, inEach("a lease is not granted by an older look", looking[4:], &LeaseAnswered{Kind: LookupOnly}, stay, Action{})...)
}

func answerRows() []row {
	checking := []phase{openingChecking, allowedChecking, recheckChecking, deniedChecking, retryLaterChecking}
	unanswered := &BackendAnswered{Decision: PendingDecision(overload())}
	retry := Action{Publish: true, WakeAt: in(time.Second)}
	rows := inEach("an answer to no check changes nothing", allBut(checking...), &BackendAnswered{Decision: yes()}, stay, Action{})
	rows = append(rows, inEach("an older check's answer is dropped", checking, &BackendAnswered{Number: -1, Decision: no()}, stay, Action{})...)
	rows = append(rows, inEach("an allowed answer admits the viewer, however late", checking, &BackendAnswered{Decision: yes()}, allowedFresh,
		Action{Publish: true, Save: true, WakeAt: in(time.Minute)})...)
	rows = append(rows, inEach("a denial of a viewer who never watched is stored", []phase{openingChecking, deniedChecking, retryLaterChecking},
		&BackendAnswered{Decision: no()}, deniedRemembered, Action{Publish: true, Save: true, WakeAt: in(15 * time.Second)})...)
	rows = append(rows, inEach("a denial of a playing viewer revokes the ticket", []phase{allowedChecking, recheckChecking},
		&BackendAnswered{Decision: no()}, deniedRemembered, Action{Publish: true, RevokeTicket: true, WakeAt: in(15 * time.Second)})...)
	under := func(a Action) Action {
		a.Revision = 7
		return a
	}
	return append(rows,
		row{
			story: "an allowed answer is stored under its lease", phase: recheckChecking, event: &BackendAnswered{Decision: yes()}, next: allowedFresh, given: underLease,
			want: under(Action{Publish: true, Save: true, WakeAt: in(time.Minute)}),
		},
		row{
			story: "an answer that is saved already releases no lease", phase: openingChecking, next: deniedRemembered, given: underLease,
			event: &BackendAnswered{Decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit}, IsSaved: true},
			want:  Action{Publish: true, WakeAt: in(evictionTTL), Revision: 7},
		},
		row{
			story: "a denial of a playing viewer is stored under its lease", phase: recheckChecking, event: &BackendAnswered{Decision: no()}, next: deniedRemembered, given: underLease,
			want: under(Action{Publish: true, RevokeTicket: true, WakeAt: in(15 * time.Second)}),
		},
		row{
			story: "a re-check without an answer releases its lease", phase: recheckChecking, event: unanswered, next: allowedFresh, given: underLease,
			want: under(Action{ReleaseLease: true, WakeAt: in(10 * time.Second)}),
		},
		row{story: "an opening without an answer is to be retried", phase: openingChecking, event: unanswered, next: retryLater, want: retry},
		row{story: "a late opening without an answer keeps its fallback", phase: allowedChecking, event: unanswered, next: allowedFresh, want: Action{WakeAt: in(10 * time.Second)}},
		row{story: "a re-check without an answer is made again soon", phase: recheckChecking, event: unanswered, next: allowedFresh, want: Action{WakeAt: in(10 * time.Second)}},
		row{story: "a denial without an answer is remembered", phase: deniedChecking, event: unanswered, next: deniedRemembered, want: Action{WakeAt: in(15 * time.Second)}},
		row{story: "an opening of a denied viewer without an answer leaves them denied", phase: openingChecking, event: unanswered, next: deniedRemembered, given: wasDenied(underLease), want: under(Action{Publish: true, ReleaseLease: true, WakeAt: in(15 * time.Second)})},
		row{story: "so does the outage policy's answer", phase: openingChecking, event: &BackendAnswered{Decision: refusedByPolicy()}, next: deniedRemembered, given: wasDenied(nil), want: Action{Publish: true, WakeAt: in(15 * time.Second)}},
		row{story: "a late check's fallback admits no viewer who was denied before", phase: deniedChecking, event: &BackendAnswered{Decision: letIn()}, next: deniedRemembered, want: Action{WakeAt: in(15 * time.Second)}},
		row{story: "a retry without an answer is to be retried again", phase: retryLaterChecking, event: unanswered, next: retryLater, want: retry},
	)
}

func waitRows() []row {
	let, refuse, overloaded := WaitExpired{Fallback: letIn()}, WaitExpired{Fallback: refusedByPolicy()}, WaitExpired{Fallback: PendingDecision(overload())}
	admitted := Action{Publish: true, Save: true, WakeAt: in(time.Minute)}
	denial := Action{Publish: true, WakeAt: in(15 * time.Second)}
	retry := Action{Publish: true, WakeAt: in(time.Second)}
	return append(
		inEach("no viewer waits any more", allBut(openingNew, openingLeasing, openingChecking), refuse, stay, Action{}),
		row{story: "an opening that has not begun is admitted", event: let, next: allowedFresh, want: Action{Publish: true, Save: true, WakeAt: in(10 * time.Second)}},
		row{story: "an opening that has not begun is refused", event: refuse, next: deniedRemembered, want: denial},
		row{story: "an opening that has not begun is to be retried", event: overloaded, next: retryLater, want: retry},
		row{story: "a late lookup continues for a viewer who is admitted", phase: openingLeasing, event: let, next: allowedLooking, want: admitted},
		row{story: "a late lookup does not matter for a viewer who is refused", phase: openingLeasing, event: refuse, next: deniedRemembered, want: denial},
		row{story: "a late lookup does not matter for a viewer who is to retry", phase: openingLeasing, event: overloaded, next: retryLater, want: retry},
		row{
			story: "a late lookup leaves a ticket, which admits", phase: openingLeasing, event: WaitExpired{Ticket: Ticket{Opened: t0(), KeyID: "a"}}, next: allowedLooking,
			given: func(s *testSession) { s.HasCredentials = false }, want: admitted,
		},
		row{
			story: "a ticket does not admit before the store is asked", event: WaitExpired{Ticket: Ticket{Opened: t0(), KeyID: "a"}, Fallback: letIn()}, next: allowedFresh,
			given: byTicketAlone, want: Action{Publish: true, Save: true, WakeAt: in(10 * time.Second)},
		},
		row{
			story: "a ticket that waits for the bans does not admit", phase: openingLeasing,
			event: WaitExpired{Ticket: Ticket{Opened: t0(), KeyID: "a"}, MayBeBanned: true, Fallback: letIn()}, next: retryLater,
			given: func(s *testSession) { s.HasCredentials = false }, want: retry,
		},
		row{story: "a late check continues for a viewer who is admitted", phase: openingChecking, event: let, next: allowedChecking, want: admitted},
		row{story: "a late check continues for a viewer who is refused", phase: openingChecking, event: refuse, next: deniedChecking, want: denial},
		row{story: "a late check continues for a viewer who was denied before", phase: openingChecking, event: let, next: deniedChecking, given: wasDenied(nil), want: denial},
		row{story: "a late lookup does not matter for a viewer who was denied before", phase: openingLeasing, event: let, next: deniedRemembered, given: wasDenied(nil), want: denial},
		row{story: "a late check continues for a viewer who is to retry", phase: openingChecking, event: overloaded, next: retryLaterChecking, want: retry},
	)
}

func timerRows() []row {
	now, idle := TimerFired{LastSeen: t0()}, TimerFired{LastSeen: in(-time.Minute)}
	allowed := []phase{allowedFresh, allowedLooking, allowedChecking, recheckQueued, recheckLooking, recheckSlotMissed, recheckLeasing, recheckChecking}
	waitsForCheck := []phase{deniedChecking, retryLater, retryLaterChecking}
	rows := inEach("an opening and a closed session have no timer", []phase{openingNew, openingLeasing, openingChecking, closed}, now, stay, Action{})
	rows = append(rows, inEach("a playing viewer is looked for again", allowed, now, stay, Action{WakeAt: in(time.Minute)})...)
	rows = append(rows, inEach("what is remembered for a retry or a check is kept", waitsForCheck, now, stay, Action{WakeAt: in(time.Second)})...)
	for _, p := range allowed {
		rows = append(rows, row{
			story: "an idle session closes", phase: p, event: idle, next: closed,
			want: Action{Close: ClosedIdle, ReturnSlot: p == recheckLeasing},
		})
	}
	return append(rows,
		row{story: "an idle session releases its lease", phase: recheckChecking, event: idle, next: closed, given: underLease, want: Action{Close: ClosedIdle, ReleaseLease: true, Revision: 7}},
		row{story: "a denial is remembered", phase: deniedRemembered, event: now, next: deniedRemembered, want: Action{WakeAt: in(15 * time.Second)}},
	)
}

func underLease(s *testSession) { s.LeaseRevision = 7 }

// wasDenied makes an opening that of a viewer who was denied before.
func wasDenied(also func(*testSession)) func(*testSession) {
	return func(s *testSession) {
		s.Decision = no()
		if also != nil {
			also(s)
		}
	}
}

func slotRows() []row {
	spent := func(p ExpiredTokenPolicy) func(*testSession) {
		return func(s *testSession) {
			s.opened, s.policy.TokenLife, s.policy.ExpiredToken = s.opened-10, 5*time.Second, p
		}
	}
	return append(
		inEach("a slot that is not needed is returned", allBut(recheckQueued, recheckLooking), RecheckGranted{}, stay, Action{ReturnSlot: true}),
		row{story: "a slot starts the re-check", phase: recheckQueued, event: RecheckGranted{}, next: recheckChecking, want: Action{StartCheck: true}},
		row{
			story: "a slot on one of many nodes asks for the lease", phase: recheckQueued, event: RecheckGranted{}, next: recheckLeasing,
			given: func(s *testSession) { s.policy.Shared = true }, want: Action{Lookup: LookupForRecheck},
		},
		row{
			story: "a slot for a spent token is returned", phase: recheckQueued, event: RecheckGranted{}, next: allowedFresh,
			given: spent(keepOnExpiredToken), want: Action{ReturnSlot: true, WakeAt: in(time.Minute)},
		},
		row{
			story: "a slot for a spent token that denies is returned", phase: recheckQueued, event: RecheckGranted{}, next: deniedRemembered,
			given: spent(denyOnExpiredToken), want: Action{ReturnSlot: true, Publish: true, RevokeTicket: true, WakeAt: in(15 * time.Second)},
		},
		row{story: "a slot that comes during a look is returned", phase: recheckLooking, event: RecheckGranted{}, next: recheckSlotMissed, want: Action{ReturnSlot: true}},
	)
}

func credentialRows() []row {
	rows := inEach("credentials are known already", allBut(), CredentialsArrived{}, stay, Action{})
	for _, p := range []phase{openingNew, openingLeasing, deniedRemembered, retryLater, closed} {
		rows = append(rows, row{story: "credentials only matter to a viewer who watches", phase: p, event: CredentialsArrived{}, next: p, given: byTicketAlone})
	}
	queued := Action{Enqueue: PriorityUnverified, Save: true}
	return append(rows,
		row{story: "credentials for a ticket's session get it checked", phase: allowedFresh, event: CredentialsArrived{}, next: recheckQueued, given: byTicketAlone, want: queued},
		row{story: "credentials for a ticket's session that looks get it checked", phase: allowedLooking, event: CredentialsArrived{}, next: recheckLooking, given: byTicketAlone, want: queued},
	)
}

func storeRows() []row {
	allowed := []phase{allowedFresh, allowedLooking, allowedChecking, recheckQueued, recheckLooking, recheckSlotMissed, recheckLeasing, recheckChecking}
	rows := inEach("a running session that was lost is stored again", allowed, LostInStore{}, stay, Action{Save: true})
	rows = append(rows, inEach("no other session is stored again", allBut(allowed...), LostInStore{}, stay, Action{})...)
	rows = append(rows, inEach("an outdated decision is soon looked up or forgotten", []phase{allowedFresh, deniedRemembered}, DecisionOutdated{}, stay, Action{WakeAt: in(time.Second)})...)
	rows = append(rows, inEach("a session in between learns the newer decision anyhow", allBut(allowedFresh, deniedRemembered), DecisionOutdated{}, stay, Action{})...)
	rows = append(rows, inEach("a session in between reloads anyhow, or later, or has nothing to reload", allBut(allowedFresh, recheckQueued), MustReload{}, stay, Action{})...)
	return append(rows,
		row{story: "a running session reloads", phase: allowedFresh, event: MustReload{}, next: allowedLooking, want: Action{Lookup: LookupOnly}},
		row{story: "a queued session reloads", phase: recheckQueued, event: MustReload{}, next: recheckLooking, want: Action{Lookup: LookupOnly}},
	)
}

func revocationRows() []row {
	denial := Action{Publish: true, WakeAt: in(15 * time.Second)}
	slotBack, release := denial, denial
	slotBack.ReturnSlot, release.ReleaseLease, release.Revision = true, true, 7
	bannedSession := func(s *testSession) { s.Decision.Source = backends.FromBan }
	rows := inEach("a session is revoked", allBut(deniedRemembered, recheckLeasing, closed), kick(), deniedRemembered, denial)
	rows = append(rows, inEach("no ban ends that there was not", allBut(), Forgotten{}, stay, Action{})...)
	for _, p := range []phase{deniedRemembered, deniedChecking} {
		rows = append(rows, row{story: "a banned viewer may open again", phase: p, event: Forgotten{}, next: closed, given: bannedSession, want: Action{Close: closedForgotten}})
	}
	return append(rows,
		row{story: "a session that was replaced closes", phase: deniedRemembered, event: Forgotten{IsReplaced: true}, next: closed, want: Action{Close: closedForgotten}},
		row{story: "a session that was cut and replaced closes", phase: deniedRemembered, event: Forgotten{IsReplaced: true}, next: closed, given: func(s *testSession) { s.WasAllowed = true }, want: Action{Close: closedDenied}},
		row{story: "a session that was replaced and allowed late closes", phase: allowedFresh, event: Forgotten{IsReplaced: true}, next: closed, want: Action{Close: closedDenied}},
		row{story: "a denial outlasts a kick", phase: deniedRemembered, event: kick(), next: deniedRemembered},
		row{story: "a kick follows a ban", phase: deniedRemembered, event: kick(), next: deniedRemembered, given: bannedSession, want: denial},
		row{story: "a session with a slot is revoked", phase: recheckLeasing, event: kick(), next: deniedRemembered, want: slotBack},
		row{story: "a session with a lease is revoked", phase: recheckChecking, event: kick(), next: deniedRemembered, given: underLease, want: release},
		row{
			story: "a superseded session with a slot closes", phase: recheckLeasing, event: Revoked{Kind: RevokedSuperseded, Decision: no()}, next: closed,
			want: Action{Publish: true, ReturnSlot: true, Close: closedSuperseded},
		},
		row{story: "a closed session is not revoked", phase: closed, event: kick(), next: closed},
	)
}

func restoreRows() []row {
	rows := inEach("a session that watched is renewed soon after a panic", allBut(closed), Restored{Decision: yes()}, allowedFresh, Action{WakeAt: in(10 * time.Second)})
	rows = append(rows, inEach("a denial is remembered after a panic", allBut(closed), Restored{Decision: no()}, deniedRemembered, Action{WakeAt: in(15 * time.Second)})...)
	rows = append(rows, inEach("a retry is forgotten after a panic", allBut(closed), Restored{}, retryLater, Action{WakeAt: in(time.Second)})...)
	return append(rows, row{story: "a closed session is not restored", phase: closed, event: Restored{Decision: yes()}, next: closed})
}

func TestStep_EveryPhaseAndEvent(t *testing.T) {
	t.Parallel()
	walked := make(map[string]bool)
	for _, r := range tableRows() {
		walked[r.phase.String()+" × "+reflect.Indirect(reflect.ValueOf(r.event)).Type().Name()] = true
		t.Run(r.phase.String()+": "+r.story, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(r.phase)
			if r.given != nil {
				r.given(s)
			}
			if got := s.step(r.event, 0); got != r.want {
				t.Errorf("action %+v, want %+v", got, r.want)
			}
			if s.phase != r.next {
				t.Errorf("phase %v, want %v", s.phase, r.next)
			}
		})
	}
	phases, events, handled := declared(t)
	slices.Sort(events)
	slices.Sort(handled)
	if !slices.Equal(events, handled) {
		t.Errorf("events %v are declared, but step handles %v", events, handled)
	}
	if len(phases) != int(closed)+1 {
		t.Errorf("the source declares phases %v, but there are %d", phases, closed+1)
	}
	for p := range phases {
		for _, e := range events {
			if pair := phase(p).String() + " × " + e; !walked[pair] {
				t.Errorf("no row for %s", pair)
			}
		}
	}
}

// declared reads from the source which phases and which events there are, so that a new one needs its rows, and which events
// the methods of step name.
func declared(t *testing.T) (phases, events, handled []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatalf("list the source: %v", err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatalf("parse %s: %v", name, err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				phases = append(phases, constantsOf(d, "phase")...)
			case *ast.FuncDecl:
				switch receiver := receiverOf(d); {
				case receiver == "step" && strings.HasPrefix(d.Name.Name, "apply"):
					handled = append(handled, typeCasesOf(d)...)
				case receiver != "" && d.Name.Name == "apply":
					events = append(events, receiver)
				}
			}
		}
	}
	if len(phases) < 2 || len(events) < 2 {
		t.Fatalf("the source declares phases %v and events %v; want several of both", phases, events)
	}
	return phases, events, handled
}

// receiverOf returns the type of a method's receiver, or that to which it points; empty: it is a function.
func receiverOf(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	return typeNameOf(d.Recv.List[0].Type)
}

// typeNameOf returns the name of a type, or of that to which it points; empty: it has none.
func typeNameOf(e ast.Expr) string {
	if pointer, isPointer := e.(*ast.StarExpr); isPointer {
		e = pointer.X
	}
	id, _ := e.(*ast.Ident)
	if id == nil {
		return ""
	}
	return id.Name
}

// typeCasesOf returns the types that a function's type switches name.
func typeCasesOf(d *ast.FuncDecl) (names []string) {
	ast.Inspect(d, func(n ast.Node) bool {
		if s, ok := n.(*ast.TypeSwitchStmt); ok {
			for _, clause := range s.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					names = append(names, typeNameOf(e))
				}
			}
		}
		return true
	})
	return names
}

// constantsOf returns the names of a constant block whose first constant is of that type.
func constantsOf(d *ast.GenDecl, typeName string) (names []string) {
	for i, spec := range d.Specs {
		value, ok := spec.(*ast.ValueSpec)
		if !ok {
			return nil
		}
		if id, ok := value.Type.(*ast.Ident); i == 0 && (!ok || id.Name != typeName || d.Tok != token.CONST) {
			return nil
		}
		names = append(names, value.Names[0].Name)
	}
	return names
}
