package session

import (
	"testing"
	"time"

	"usher/backends"
)

// TestStep_BackendAnswered_Validity shows until when an answer holds, and which revision the session has after it.
func TestStep_BackendAnswered_Validity(t *testing.T) {
	t.Parallel()
	const now, lease, old = 20 * time.Second, 7, 5
	forAnHour := yes()
	forAnHour.ValidFor = time.Hour
	for name, test := range map[string]struct {
		event    *BackendAnswered
		lease    uint64
		until    time.Duration
		revision uint64
	}{
		"an answer of the backend":            {&BackendAnswered{Decision: yes()}, lease, now + 3*time.Minute, lease},
		"an answer that says how long":        {&BackendAnswered{Decision: forAnHour}, lease, now + time.Hour, lease},
		"an answer without a lease":           {&BackendAnswered{Decision: yes()}, 0, now + 3*time.Minute, old},
		"the outage policy's":                 {&BackendAnswered{Decision: letIn()}, lease, now + 10*time.Second, old},
		"the outage policy's while it's down": {&BackendAnswered{Decision: letIn(), IsBackendDown: true}, lease, now + 10*time.Second, old},
		"no answer":                           {&BackendAnswered{Decision: backends.Decision{Source: backends.FromBackend}}, lease, 0, old},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(openingChecking)
			s.Revision, s.LeaseRevision = old, test.lease
			s.step(test.event, now)
			if s.Decision.Verdict == backends.Allowed && s.ValidUntil != test.until {
				t.Errorf("valid until %v after the start, want %v", s.ValidUntil, test.until)
			}
			if s.Revision != test.revision {
				t.Errorf("got revision %d, want %d", s.Revision, test.revision)
			}
		})
	}
}

// TestStep_BackendAnswered_Denied_Stored has only a backend's own No stored, and revoke a ticket: bans and limits may end.
func TestStep_BackendAnswered_Denied_Stored(t *testing.T) {
	t.Parallel()
	for source, isAnswer := range map[backends.Source]bool{
		backends.FromBackend: true, backends.FromLocal: true, backends.FromBan: false, backends.FromLimit: false, backends.FromFailOpen: false,
	} {
		d := backends.Decision{Verdict: backends.Denied, Source: source}
		opening := sessionIn(openingChecking)
		if a := opening.step(&BackendAnswered{Decision: d}, time.Second); a.Save != isAnswer || a.RevokeTicket {
			t.Errorf("an opening, by %v: %+v, want it stored: %t", source, a, isAnswer)
		}
		playing := sessionIn(recheckChecking)
		playing.WasAllowed, playing.ValidUntil = true, time.Second
		if a := playing.step(&BackendAnswered{Decision: d}, time.Second); a.RevokeTicket != isAnswer || a.Save {
			t.Errorf("a session that plays, by %v: %+v, want its ticket revoked: %t", source, a, isAnswer)
		}
	}
}

// TestStep_Denied_User has a denial name the viewer's user, so that the session can be found and its record says whose it was.
func TestStep_Denied_User(t *testing.T) {
	t.Parallel()
	by := func(source backends.Source, id, name string) backends.Decision {
		return backends.Decision{Verdict: backends.Denied, Source: source, UserID: id, User: name}
	}
	revoked := in(0)
	for name, test := range map[string]struct {
		phase    phase
		event    Event
		id, name string
	}{
		"a plain No":              {recheckChecking, &BackendAnswered{Decision: no()}, "17", "Ann"},
		"a No that names a user":  {recheckChecking, &BackendAnswered{Decision: by(backends.FromBackend, "18", "")}, "18", ""},
		"a No to a new viewer":    {openingChecking, &BackendAnswered{Decision: no()}, "", ""},
		"another node's No":       {allowedFresh, Revoked{Kind: RevokedDenied, Decision: no()}, "17", "Ann"},
		"a ban of an address":     {allowedFresh, Revoked{Kind: RevokedBanned, Decision: by(backends.FromBan, "", "")}, "17", "Ann"},
		"a ban of the user":       {allowedFresh, Revoked{Kind: RevokedBanned, Decision: by(backends.FromBan, "Ann", "")}, "17", "Ann"},
		"a ban of an unknown one": {openingChecking, Revoked{Kind: RevokedBanned, Decision: by(backends.FromBan, "Ann", "")}, "Ann", ""},
		"a kick":                  {allowedFresh, Revoked{Kind: RevokedBanned, Decision: Kicked("")}, "17", "Ann"},
		"an eviction":             {allowedFresh, Revoked{Kind: RevokedEvicted, Decision: by(backends.FromLimit, "", "")}, "17", "Ann"},
		"the outage policy":       {recheckChecking, &BackendAnswered{Decision: refusedByPolicy()}, "17", "Ann"},
		"a revoked ticket": {recheckLeasing, &LeaseAnswered{
			Kind: LookupForRecheck, LeaseResult: LeaseResult{Found: true, Record: Record{Decision: yes(), Opened: revoked, RevokedBefore: revoked}},
		}, "17", "Ann"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(test.phase)
			s.step(test.event, time.Second)
			if d := &s.Decision; d.Verdict != backends.Denied || d.UserID != test.id || d.User != test.name {
				t.Errorf("decided %+v, want a denial of %q, named %q", *d, test.id, test.name)
			}
		})
	}
}

// TestStep_WaitExpired_Validity shows until when a viewer plays who was admitted before the backend answered.
func TestStep_WaitExpired_Validity(t *testing.T) {
	t.Parallel()
	sibling := WaitExpired{IsFailure: true, Ticket: rootTicket(time.Hour)}
	for name, test := range map[string]struct {
		event WaitExpired
		given func(*testSession)
	}{
		"the outage policy's": {WaitExpired{Fallback: letIn()}, withCredentials},
		"a sibling's":         {sibling, asSibling(time.Hour, withCredentials, rootAllowed)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(openingChecking)
			test.given(s)
			s.step(test.event, 20*time.Second)
			if s.phase != allowedChecking || s.Expires != 30*time.Second || s.ValidUntil != 30*time.Second {
				t.Errorf("phase %v, expires %v, valid until %v after the start; want %v, 30s, 30s", s.phase, s.Expires, s.ValidUntil, allowedChecking)
			}
		})
	}
}

// TestStep_CheckNumber_Grows shows that what outdates a check in flight does not free its number for a later one.
func TestStep_CheckNumber_Grows(t *testing.T) {
	t.Parallel()
	reopening := OpenRequested{Ticket: Ticket{Opened: in(-time.Hour), KeyID: "a"}}
	for name, test := range map[string]struct {
		phase phase
		event Event
	}{
		"a revocation":                          {recheckChecking, kick()},
		"a panic":                               {recheckChecking, Restored{Decision: yes()}},
		"a slot":                                {recheckQueued, RecheckGranted{}},
		"an opening by a ticket after a denial": {deniedRemembered, reopening},
		"an adopted record":                     {openingLeasing, remembered(Record{Opened: t0(), Decision: yes(), Expires: in(time.Hour), CheckNumber: 4})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(test.phase)
			s.CheckNumber, s.policy.TokenLife = 4, time.Minute
			s.step(test.event, 15*time.Second)
			if s.CheckNumber != 5 {
				t.Errorf("check number %d, want 5", s.CheckNumber)
			}
		})
	}
}

// TestStep_LeaseAnswered_NewerRecord_Credentials shows that credentials, once known to the session or to the store, stay known.
func TestStep_LeaseAnswered_NewerRecord_Credentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ofSession, ofRecord, want bool
	}{
		"the session's": {true, false, true},
		"the record's":  {false, true, true},
		"both":          {true, true, true},
		"neither":       {false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(allowedLooking)
			s.HasCredentials = test.ofSession
			r := Record{Revision: s.Revision + 1, Decision: yes(), Expires: in(2 * time.Minute)}
			if test.ofRecord {
				r.Request = &backends.Request{}
			}
			s.step(&LeaseAnswered{Kind: LookupOnly, LeaseResult: LeaseResult{Found: true, Record: r}}, time.Minute)
			if s.Revision != r.Revision || s.HasCredentials != test.want {
				t.Errorf("got revision %d and credentials %t, want %d and %t", s.Revision, s.HasCredentials, r.Revision, test.want)
			}
			if s.ValidUntil != 2*time.Minute {
				t.Errorf("valid until %v after the start, want what the record says, 2m", s.ValidUntil)
			}
		})
	}
}

// TestStep_Revoked_KeepsDenial has a ban or a kick take no denial's place that an answer alone ends, or the viewer would be unknown once
// the ban is over.
func TestStep_Revoked_KeepsDenial(t *testing.T) {
	t.Parallel()
	ban := Revoked{Kind: RevokedBanned, Decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromBan}}
	limit := Revoked{Kind: RevokedEvicted, Decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit}}
	for _, p := range []phase{openingNew, openingLeasing, openingChecking, deniedRemembered, deniedChecking} {
		for _, event := range []Revoked{ban, kick(), limit} {
			s := sessionIn(p)
			s.Decision = no()
			s.step(event, 0)
			if s.phase != deniedRemembered || s.Decision.Source != backends.FromBackend {
				t.Errorf("%v, then %v: %v by %v, want the backend's denial", p, event.Kind, s.phase, s.Decision.Source)
			}
			s = sessionIn(p)
			s.Decision = backends.Decision{}
			if s.step(event, 0); s.phase != deniedRemembered || s.Decision.Source != event.Decision.Source {
				t.Errorf("%v without a denial, then %v: %v by %v, want it by %v", p, event.Kind, s.phase, s.Decision.Source, event.Decision.Source)
			}
		}
	}
}

// TestStep_Revoked_Denied_EndsBan has another node's backend deny a viewer whom a ban or a limit refuses here. The denial holds on once that
// is over.
func TestStep_Revoked_Denied_EndsBan(t *testing.T) {
	t.Parallel()
	for _, p := range []phase{deniedRemembered, deniedChecking} {
		for source, isTaken := range map[backends.Source]bool{
			backends.FromBan: true, backends.FromOperator: true, backends.FromLimit: true, backends.FromFailOpen: true, backends.FromLocal: false,
		} {
			s := sessionIn(p)
			s.WasAllowed, s.Decision = true, backends.Decision{Verdict: backends.Denied, Source: source}
			a := s.step(Revoked{Kind: RevokedDenied, Decision: no()}, 0)
			if got := s.Decision.Source == backends.FromBackend; got != isTaken || a.Publish != isTaken || a.RevokeTicket {
				t.Errorf("%v by %v: now by %v, %+v; want the backend's denial shown: %t", p, source, s.Decision.Source, a, isTaken)
			}
		}
	}
}

// TestStep_Revoked_Superseded_KeepsDenial has the limit end a stream of a viewer who was denied meanwhile. They would be unknown otherwise.
func TestStep_Revoked_Superseded_KeepsDenial(t *testing.T) {
	t.Parallel()
	superseded := Revoked{Kind: RevokedSuperseded, Decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit}}
	for _, p := range []phase{openingNew, openingLeasing, openingChecking, deniedRemembered, deniedChecking} {
		s := sessionIn(p)
		s.Decision = no()
		if a := s.step(superseded, 0); s.phase == closed || a.Close != NotClosing || s.Decision.Source != backends.FromBackend {
			t.Errorf("%v: %v by %v, want the backend's denial", p, s.phase, s.Decision.Source)
		}
	}
}

// TestStep_LeaseAnswered_Untold has the store fail while a ticket opens a denied session again. The session is as old as the ticket only if
// the backend can be asked as of then.
func TestStep_LeaseAnswered_Untold(t *testing.T) {
	t.Parallel()
	ticket := Ticket{Opened: in(-time.Hour), KeyID: "b"}
	for name, test := range map[string]struct {
		breaker       backends.BreakerState
		isUnavailable bool
		held          backends.Decision
		isOfTicket    bool
	}{
		"nobody can tell":                      {backends.BreakerOpen, true, no(), false},
		"nobody can tell, half-open":           {backends.BreakerHalfOpen, true, no(), false},
		"the backend can":                      {backends.BreakerClosed, true, no(), true},
		"the store can":                        {backends.BreakerOpen, false, no(), true},
		"nobody can tell, and none was denied": {backends.BreakerOpen, true, backends.Decision{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(openingLeasing)
			s.Decision = test.held
			s.step(&LeaseAnswered{
				Kind: LookupForOpening, IsUnavailable: test.isUnavailable, Ticket: ticket, Timer: TimerFired{Breaker: test.breaker},
			}, 0)
			if got := s.Opened().Equal(ticket.Opened); got != test.isOfTicket || s.phase != openingChecking {
				t.Errorf("%v, opened at %v with key %s; want it as the ticket: %t", s.phase, s.Opened(), s.KeyID, test.isOfTicket)
			}
		})
	}
}
