package session

import (
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// t0 is when the sessions of these tests opened, and when their node started.
func t0() time.Time { return time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC) }

func in(d time.Duration) time.Time { return t0().Add(d) }

// plainPolicy has round numbers and no jitter.
func plainPolicy() *Policy {
	return &Policy{
		Start:       t0(),
		Validity:    3 * time.Minute,
		RecheckMin:  10 * time.Second,
		RecheckMax:  24 * time.Hour,
		DenialTTL:   15 * time.Second,
		RetryAfter:  time.Second,
		IdleTimeout: time.Minute,
		ReviveFor:   6 * time.Hour,
	}
}

func yes() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, UserID: "17", User: "Ann"}
}

func no() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "not paid"}
}

func letIn() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
}

func cached() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromCached, UserID: "17", User: "Ann"}
}

func refusedByPolicy() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen}
}

func overload() error { return backends.NewOverload("backends.portal.max_in_flight", 1) }

// kick is what an operator does to a session.
func kick() Revoked { return Revoked{Kind: RevokedKicked, Decision: Kicked("")} }

// remembered is the store's answer to an opening whose session it knows.
func remembered(r Record) *LeaseAnswered {
	return &LeaseAnswered{Kind: LookupForOpening, LeaseResult: LeaseResult{Found: true, Record: r}}
}

// testSession is a session with a policy of its own.
type testSession struct {
	State
	policy *Policy
}

func (s *testSession) step(e Event, at time.Duration) Action { return s.Step(s.policy, e, in(at)) }

// sessionIn returns a session of a viewer with credentials in that phase.
func sessionIn(p phase) *testSession {
	s := &testSession{policy: plainPolicy(), State: NewState(Origin{Opened: t0(), KeyID: "a", HasCredentials: true})}
	s.phase = p
	switch {
	case p == allowedChecking:
		s.WasAllowed, s.Decision, s.Expires = true, letIn(), 10*time.Second
	case p == allowedFresh, p == allowedLooking:
		s.WasAllowed, s.Decision, s.Expires = true, yes(), 3*time.Minute
	case p.isAllowed():
		s.WasAllowed, s.Decision = true, yes()
	case p.isDenied():
		s.Decision, s.Expires = no(), 15*time.Second
	case p != closed && !p.isOpening():
		s.Expires = time.Second
	}
	return s
}

// byTicketAlone makes the session one whose viewer is known by their ticket alone.
func byTicketAlone(s *testSession) {
	s.HasCredentials = false
	if s.phase.isAllowed() {
		s.Decision = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
	}
}

func TestState_Standing(t *testing.T) {
	t.Parallel()
	adopted := sessionIn(openingChecking)
	adopted.WasAllowed, adopted.Decision = true, yes()
	cases := map[string]struct {
		session *testSession
		want    backends.Decision
	}{
		"an opening has no decision":                    {sessionIn(openingChecking), backends.Decision{}},
		"a viewer who is to retry has none":             {sessionIn(retryLaterChecking), backends.Decision{}},
		"a viewer who watches is allowed":               {sessionIn(recheckQueued), yes()},
		"a denied viewer is denied":                     {sessionIn(deniedRemembered), no()},
		"an adopted decision that has expired is known": {adopted, yes()},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.session.CurrentDecision(); got != c.want {
				t.Errorf("current decision %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestState_StringsAreAClosedSet(t *testing.T) {
	t.Parallel()
	var got []string
	for p := openingNew; p <= closed; p++ {
		got = append(got, p.String())
	}
	for r := NotClosing; r <= closedSuperseded; r++ {
		got = append(got, r.String())
	}
	for b := backends.BreakerClosed; b <= backends.BreakerOpen; b++ {
		got = append(got, b.String())
	}
	want := []string{
		"opening-new", "opening-leasing", "opening-checking",
		"allowed-fresh", "allowed-looking", "allowed-checking",
		"recheck-queued", "recheck-looking", "recheck-slot-missed", "recheck-leasing", "recheck-checking",
		"denied-remembered", "denied-checking", "retry-later", "retry-later-checking", "closed",
		"", "idle", "denied", "forgotten", "unknown-ticket", "superseded", "closed", "half-open", "open",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("strings (-want +got):\n%s", diff)
	}
}

// TestState_IsSmall bounds what a million sessions cost. What grows it must be worth a megabyte a byte.
func TestState_IsSmall(t *testing.T) {
	t.Parallel()
	const most = 192
	if got := unsafe.Sizeof(State{}); got > most {
		t.Errorf("a State has %d bytes, want at most %d", got, most)
	}
}

func TestStep_DoesNotAllocate(t *testing.T) {
	rows := tableRows()
	for _, r := range rows {
		s := sessionIn(r.phase)
		if r.given != nil {
			r.given(s)
		}
		before := s.State
		if got := testing.AllocsPerRun(10, func() {
			s.State = before
			s.Step(s.policy, r.event, t0())
		}); got != 0 {
			t.Errorf("%v, %T (%s): %v allocations, want 0", r.phase, r.event, r.story, got)
		}
	}
}

// TestStep_EventsDoNotEscape has the caller make its event: it must stay on the stack.
func TestStep_EventsDoNotEscape(t *testing.T) {
	s := sessionIn(allowedFresh)
	lastSeen, revision := t0(), uint64(0)
	if got := testing.AllocsPerRun(100, func() {
		s.step(TimerFired{LastSeen: lastSeen}, 0)
		s.step(&BackendAnswered{Decision: s.Decision}, 0)
		s.step(&LeaseAnswered{LeaseResult: LeaseResult{Revision: revision}}, 0)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func BenchmarkStep(b *testing.B) {
	s := sessionIn(allowedFresh)
	var e Event = TimerFired{LastSeen: t0()}
	b.ReportAllocs()
	for b.Loop() {
		s.Step(s.policy, e, t0())
	}
	b.ReportMetric(float64(unsafe.Sizeof(State{})), "State-bytes")
}
