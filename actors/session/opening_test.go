package session

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func TestStep_OpeningByRecordAndTicket(t *testing.T) {
	t.Parallel()
	const h = time.Hour
	now := in(2 * h)
	request := &backends.Request{Channel: "a001"}
	record := func(d backends.Decision, expires time.Time, q *backends.Request) *LeaseAnswered {
		return &LeaseAnswered{Kind: LookupForOpening, LeaseResult: LeaseResult{Found: true, Record: Record{
			Opened: t0(), KeyID: "old", Decision: d, Expires: expires, CheckNumber: 6, Request: q,
		}}}
	}
	revoked := func(at time.Time, r *LeaseAnswered) *LeaseAnswered {
		r.Found, r.Record.RevokedBefore = true, at
		return r
	}
	over := func(r *LeaseAnswered) *LeaseAnswered {
		r.Record.IsClosed = true
		return r
	}
	byRule := no()
	byRule.Source = backends.FromLocal
	ticket := func(at time.Time) Ticket { return Ticket{Opened: at, KeyID: "t"} }
	watching := Action{Publish: true, WakeAt: now.Add(time.Minute)}
	admitted := watching
	admitted.Save = true
	cases := map[string]struct {
		request bool
		ticket  Ticket
		given   func(*Policy)
		event   *LeaseAnswered
		want    Action
		phase   phase
		opened  time.Time
		key     string
		source  backends.Source
	}{
		"without a record the session is checked, and opens now": {
			request: true, want: Action{StartCheck: true}, phase: openingChecking, opened: now, key: "new",
		},
		"a young ticket admits its session": {
			ticket: ticket(t0()), want: admitted, phase: allowedFresh, opened: t0(), key: "t", source: backends.FromTicket,
		},
		"a ticket from the future admits": {
			ticket: ticket(in(3 * h)), want: admitted, phase: allowedFresh, opened: in(3 * h), key: "t", source: backends.FromTicket,
		},
		"a ticket that is too old does not admit": {
			ticket: ticket(in(-5 * h)), want: Action{Publish: true, Close: closedUnknownTicket}, phase: closed,
			opened: now, key: "new", source: backends.FromTicket,
		},
		"a ticket does not admit where the policy wants an answer": {
			ticket: ticket(t0()), given: func(p *Policy) { p.ReviveDenied = true },
			want: Action{Publish: true, Close: closedUnknownTicket}, phase: closed, opened: t0(), key: "t", source: backends.FromTicket,
		},
		"a revoked ticket is refused": {
			ticket: ticket(t0()), event: revoked(t0(), &LeaseAnswered{Kind: LookupForOpening}),
			want: Action{Publish: true, Close: closedDenied}, phase: closed, opened: now, key: "new", source: backends.FromTicket,
		},
		"a revoked ticket with credentials is checked, and opens anew": {
			request: true, ticket: ticket(t0()), event: revoked(t0(), &LeaseAnswered{Kind: LookupForOpening}),
			want: Action{StartCheck: true}, phase: openingChecking, opened: now, key: "new",
		},
		"a ticket newer than the revocation keeps its opening time": {
			ticket: ticket(in(h)), event: revoked(t0(), &LeaseAnswered{Kind: LookupForOpening}),
			want: admitted, phase: allowedFresh, opened: in(h), key: "t", source: backends.FromTicket,
		},
		"a young ticket with credentials is checked, and keeps its opening time": {
			request: true, ticket: ticket(t0()), want: Action{StartCheck: true}, phase: openingChecking, opened: t0(), key: "t",
		},
		"a ticket with credentials whose token is spent admits": {
			request: true, ticket: ticket(t0()), given: func(p *Policy) { p.TokenLife = 5 * time.Second },
			want: admitted, phase: allowedFresh, opened: t0(), key: "t", source: backends.FromTicket,
		},
		"a revoked ticket whose token is spent does not admit": {
			request: true, ticket: ticket(t0()), given: func(p *Policy) { p.TokenLife = 5 * time.Second },
			event: revoked(t0(), &LeaseAnswered{Kind: LookupForOpening}), want: Action{StartCheck: true}, phase: openingChecking, opened: now, key: "new",
		},
		"a valid decision is adopted without a check": {
			request: true, event: record(yes(), in(3*h), request),
			want: watching, phase: allowedFresh, opened: t0(), key: "old", source: backends.FromBackend,
		},
		"a valid decision is adopted for a ticket alone": {
			ticket: ticket(t0()), event: record(yes(), in(3*h), nil),
			want: watching, phase: allowedFresh, opened: t0(), key: "old", source: backends.FromBackend,
		},
		"an expired decision is checked with the request that opened it": {
			ticket: ticket(t0()), event: record(yes(), in(h), request),
			want: Action{StartCheck: true}, phase: openingChecking, opened: t0(), key: "old", source: backends.FromBackend,
		},
		"an expired decision whose request is lost leaves the ticket": {
			ticket: ticket(t0()), event: record(yes(), in(h), nil),
			want: admitted, phase: allowedFresh, opened: t0(), key: "old", source: backends.FromTicket,
		},
		"an expired decision with a spent token is kept": {
			ticket: ticket(t0()), given: func(p *Policy) { p.TokenLife = 5 * time.Second },
			event: record(yes(), in(h), request),
			want:  watching, phase: allowedFresh, opened: t0(), key: "old", source: backends.FromBackend,
		},
		"an unverified decision is adopted and queued first": {
			ticket: ticket(t0()), event: record(letIn(), in(3*h), request),
			want:  Action{Publish: true, Enqueue: PriorityUnverified, WakeAt: now.Add(time.Minute)},
			phase: recheckQueued, opened: t0(), key: "old", source: backends.FromFailOpen,
		},
		"an unverified decision with a spent token is adopted and kept": {
			ticket: ticket(t0()), given: func(p *Policy) { p.TokenLife = 5 * time.Second },
			event: record(letIn(), in(3*h), request),
			want:  watching, phase: allowedFresh, opened: t0(), key: "old", source: backends.FromFailOpen,
		},
		"the decision of a revoked session is not adopted": {
			request: true, event: revoked(t0(), record(yes(), in(3*h), request)),
			want: Action{StartCheck: true}, phase: openingChecking, opened: now, key: "new",
		},
		"a session opened anew after a revocation is adopted": {
			ticket: ticket(t0()), event: revoked(in(-h), record(yes(), in(3*h), nil)),
			want: watching, phase: allowedFresh, opened: t0(), key: "old", source: backends.FromBackend,
		},
		"a session opened in the second of a revocation opens after it": {
			request: true, event: revoked(now, &LeaseAnswered{Kind: LookupForOpening}),
			want: Action{StartCheck: true}, phase: openingChecking, opened: now.Add(time.Second), key: "new",
		},
		"a ticket that is exactly as old as it may be admits": {
			ticket: ticket(in(-4 * h)), want: admitted, phase: allowedFresh, opened: in(-4 * h), key: "t", source: backends.FromTicket,
		},
		"a ticket that is too old with credentials is checked, and opens anew, though its token is spent": {
			request: true, ticket: ticket(in(-5 * h)), given: func(p *Policy) { p.TokenLife = 5 * time.Second },
			want: Action{StartCheck: true}, phase: openingChecking, opened: now, key: "new",
		},
		"a closed session whose decision has expired opens anew": {
			request: true, event: over(record(yes(), in(h), request)),
			want: Action{StartCheck: true}, phase: openingChecking, opened: now, key: "new", source: backends.FromBackend,
		},
		"a closed session whose ticket holds keeps its opening time": {
			request: true, ticket: ticket(t0()), event: over(record(yes(), in(h), request)),
			want: Action{StartCheck: true}, phase: openingChecking, opened: t0(), key: "t", source: backends.FromBackend,
		},
		"a denial by a rule is not adopted for an older ticket": {
			request: true, ticket: ticket(in(-h)), given: func(p *Policy) { p.Shared = true }, event: record(byRule, in(3*h), request),
			want: Action{StartCheck: true}, phase: openingChecking, opened: in(-h), key: "t",
		},
		"a decision that expires now is checked": {
			request: true, event: record(yes(), now, request),
			want: Action{StartCheck: true}, phase: openingChecking, opened: t0(), key: "old", source: backends.FromBackend,
		},
		"a viewer with nothing to show is unknown, whatever was revoked": {
			event: revoked(t0(), &LeaseAnswered{Kind: LookupForOpening}),
			want:  Action{Publish: true, Close: closedUnknownTicket}, phase: closed, opened: now, key: "new", source: backends.FromTicket,
		},
		"a denial is not adopted, but its request is used": {
			ticket: ticket(t0()), event: record(no(), in(3*h), request),
			want: Action{StartCheck: true}, phase: openingChecking, opened: t0(), key: "t",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &testSession{policy: plainPolicy(), State: NewState(Origin{HasCredentials: c.request, Opened: now, KeyID: "new"})}
			s.phase = openingLeasing
			if c.given != nil {
				c.given(s.policy)
			}
			if c.event == nil {
				c.event = &LeaseAnswered{}
			}
			c.event.Kind, c.event.Ticket = LookupForOpening, c.ticket
			got := s.step(c.event, 2*h)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("action (-want +got):\n%s", diff)
			}
			if s.phase != c.phase || !s.Opened().Equal(c.opened) || s.KeyID != c.key || s.Decision.Source != c.source {
				t.Errorf("phase %v, opened %v, key %q, source %v; want %v, %v, %q, %v",
					s.phase, s.Opened(), s.KeyID, s.Decision.Source, c.phase, c.opened, c.key, c.source)
			}
		})
	}
}

// TestStep_OpensDenied_Refused has a limit or an operator refuse a viewer who was denied before. Limits and bans end, and the viewer
// would be unknown then.
func TestStep_OpensDenied_Refused(t *testing.T) {
	t.Parallel()
	for _, source := range []backends.Source{backends.FromLimit, backends.FromBan, backends.FromOperator} {
		t.Run(source.String(), func(t *testing.T) {
			t.Parallel()
			s := sessionIn(openingLeasing)
			wasDenied(nil)(s)
			refused := backends.Decision{Verdict: backends.Denied, Source: source}
			s.step(&LeaseAnswered{Kind: LookupForOpening, LeaseResult: LeaseResult{Found: true}, Refused: &refused}, 0)
			if s.phase != deniedRemembered || s.Decision.Source != backends.FromBackend {
				t.Errorf("%v by %v, want denied by %v", s.phase, s.Decision.Source, backends.FromBackend)
			}
		})
	}
}

func TestStep_ValidityIsClamped(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ said, want time.Duration }{
		"nothing said":  {0, 3 * time.Minute},
		"negative":      {-time.Second, 3 * time.Minute},
		"too short":     {time.Second, 10 * time.Second},
		"within bounds": {time.Hour, time.Hour},
		"too long":      {10000 * time.Hour, 24 * time.Hour},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d := sessionIn(openingChecking), yes()
			d.ValidFor = c.said
			s.step(&BackendAnswered{Decision: d}, 0)
			if got := s.Expires; got != c.want {
				t.Errorf("holds for %v, want %v", got, c.want)
			}
		})
	}
}

func TestStep_JitterSpreadsRenewals(t *testing.T) {
	t.Parallel()
	const sessions = 10_000
	var early []time.Duration
	p := plainPolicy()
	p.Jitter = 0.1
	for i := range sessions {
		s := step{State: &State{ID: idOf(i)}, Policy: p}
		at := s.renewalAt(100 * time.Second)
		if again := s.renewalAt(100 * time.Second); again != at {
			t.Fatalf("renewal at %v, then at %v", at, again)
		}
		early = append(early, 100*time.Second-at)
		s.CheckNumber++
		if next := s.renewalAt(100 * time.Second); next == at {
			t.Fatalf("session %d: the next check comes as early as the one before", i)
		}
	}
	slices.Sort(early)
	if early[0] < 0 || early[sessions-1] > 10*time.Second {
		t.Errorf("renewals come %v to %v early, want 0s to 10s", early[0], early[sessions-1])
	}
	for i, want := range []time.Duration{1, 3, 5, 7, 9} {
		got := early[sessions*(2*i+1)/10]
		if diff := got - want*time.Second; diff.Abs() > 300*time.Millisecond {
			t.Errorf("quantile %d0 %%: %v early, want about %vs", 2*i+1, got, want)
		}
	}
}

func TestPendingDecision_QuotesNoSecret(t *testing.T) {
	t.Parallel()
	secret := errors.New(`Get "http://mw/?token=s3cret": connection refused`)
	cases := map[string]struct {
		err  error
		want string
	}{
		"a failure":     {&backends.Failure{Kind: backends.FailureTransport, Err: secret}, "no answer: transport"},
		"anything else": {secret, "the check was given up"},
		"an overload":   {overload(), "overloaded: backends.portal.max_in_flight=1 reached"},
		"no verdict":    {nil, "the answer was neither allowed nor denied"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(openingChecking)
			var d backends.Decision
			if c.err != nil {
				d = PendingDecision(c.err)
			}
			s.step(&BackendAnswered{Decision: d}, 0)
			if got := s.Decision.Reason; got != c.want || strings.Contains(got, "s3cret") {
				t.Errorf("reason %q, want %q", got, c.want)
			}
		})
	}
}
