package chain

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// firstOpinionOf is a composite that asks its members in order and takes the first opinion.
func firstOpinionOf(members ...backends.Member) backends.Backend {
	return backends.BackendFunc(func(ctx context.Context, r *backends.Request) (d backends.Decision, err error) {
		for _, m := range members {
			if d, err = m.Backend.Check(ctx, r); err == nil && d.Verdict != backends.Pending {
				return d, nil
			}
		}
		return d, err
	})
}

// memberInState returns a chain whose breaker is in that state, and stays in it while time stands still.
func memberInState(t *testing.T, name string, state backends.BreakerState) (*Chain, *switchable) {
	t.Helper()
	s := &switchable{current: allow}
	c := New(name, DefaultConfig(), s, Deps{Kind: "test"})
	if state != backends.BreakerClosed {
		openBreaker(t, c.Breaker, s)
	}
	if state == backends.BreakerHalfOpen {
		time.Sleep(DefaultBreakerConfig().OpenDuration + time.Second) // within the test's bubble
		c.Breaker.cb.State()
	}
	if c.State() != state {
		t.Fatalf("got state %s, want %s", c.State(), state)
	}
	return c, s
}

func compositeOf(policy backends.Policy, log *slog.Logger, members ...*Chain) *Chain {
	var joined []backends.Member
	for _, m := range members {
		joined = append(joined, backends.Member{Name: m.Name, Backend: m.WithoutFailOpen()})
	}
	return NewLocal("joint", policy, firstOpinionOf(joined...), members, Deps{Kind: "any", Log: log})
}

func TestNewLocal_State_OfItsBestMember(t *testing.T) {
	t.Parallel()
	const closed, half, open = backends.BreakerClosed, backends.BreakerHalfOpen, backends.BreakerOpen
	tests := map[string]struct {
		members []backends.BreakerState
		want    backends.BreakerState
	}{
		"no members":               {nil, closed},
		"all closed":               {[]backends.BreakerState{closed, closed}, closed},
		"one closed":               {[]backends.BreakerState{open, half, closed}, closed},
		"one is tried":             {[]backends.BreakerState{open, half}, half},
		"all open":                 {[]backends.BreakerState{open, open}, open},
		"one alone that is tried":  {[]backends.BreakerState{half}, half},
		"one alone that is closed": {[]backends.BreakerState{closed}, closed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var members []*Chain
				for _, state := range []backends.BreakerState{half, open, closed} { // the states that take time first
					for _, want := range tt.members {
						if want == state {
							c, _ := memberInState(t, "m", state)
							members = append(members, c)
						}
					}
				}
				c := compositeOf(backends.PolicyAllow, nil, members...)
				outer := compositeOf(backends.PolicyAllow, nil, c)
				for _, joint := range []*Chain{c, outer} {
					down := tt.want != closed
					if joint.State() != tt.want || joint.IsDown() != down || joint.FailOpen.IsDown() != down {
						t.Errorf("got state %s, down %t and %t; want %s, %t",
							joint.State(), joint.IsDown(), joint.FailOpen.IsDown(), tt.want, down)
					}
				}
			})
		})
	}
}

func TestNewLocal_State_LocalMemberKeepsItClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		portal, _ := memberInState(t, "portal", backends.BreakerOpen)
		users := NewLocal("users", backends.Policy(0), answerWith(backends.Decision{Verdict: backends.Denied}), nil, Deps{})
		if c := compositeOf(backends.PolicyAllow, nil, users, portal); c.IsDown() {
			t.Error("the composite is down although one of its members is local")
		}
	})
}

// opinionated is a composite that decides on each viewer itself.
type opinionated struct {
	backends.Backend
	d backends.Decision
}

func (o opinionated) DecideWithoutCall(*backends.Request) (backends.Decision, bool) { return o.d, true }

// TestChain_Fallback_OwnDecision has what a composite decides itself hold in place of the outage policy, but not in place of what
// its check has brought.
func TestChain_Fallback_OwnDecision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		portal, _ := memberInState(t, "portal", backends.BreakerOpen)
		allowed := backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "rules[0]: allow"}
		for want, d := range map[string]backends.Decision{"allowed rules[0]: allow": allowed, "denied no rule speaks for the viewer": {}} {
			gate := NewLocal("gate", backends.PolicyDeny, opinionated{failWith(backends.FailureTransport), d}, []*Chain{portal}, Deps{})
			if got, err := gate.Fallback(openingFrom(1), nil); err != nil || got.Verdict.String()+" "+got.Reason != want {
				t.Errorf("in place of the answer: got %+v and %v, want %s", got, err, want)
			}
			if got, err := gate.Check(t.Context(), openingFrom(1)); err != nil || got.Source != backends.FromFailOpen {
				t.Errorf("checked: got %+v and %v, want what the outage policy decides", got, err)
			}
			if own, isDecided := gate.Member(0).DecideWithoutCall(openingFrom(1)); !isDecided || own != d {
				t.Errorf("a composite learns %+v, %t; want %+v", own, isDecided, d)
			}
			if !gate.IsDown() {
				t.Error("it is not down with its member")
			}
		}
	})
}

// TestChain_IsImpaired tells of each member that is down, also of a composite's own.
func TestChain_IsImpaired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up, _ := memberInState(t, "up", backends.BreakerClosed)
		down, _ := memberInState(t, "down", backends.BreakerOpen)
		tried, _ := memberInState(t, "tried", backends.BreakerHalfOpen)
		local := NewLocal("users", backends.PolicyAllow, answerWith(backends.Decision{}), nil, Deps{})
		for name, test := range map[string]struct {
			c    *Chain
			want bool
		}{
			"a backend that is up":      {up, false},
			"one that is down":          {down, true},
			"one that is tried":         {tried, true},
			"one in this process":       {local, false},
			"a composite that is up":    {compositeOf(backends.PolicyAllow, nil, up, local), false},
			"one with a member down":    {compositeOf(backends.PolicyAllow, nil, up, down), true},
			"a member's member is":      {compositeOf(backends.PolicyAllow, nil, compositeOf(backends.PolicyAllow, nil, local, tried), up), true},
			"beside one in the process": {compositeOf(backends.PolicyAllow, nil, local, down), true},
		} {
			if got := test.c.IsImpaired(); got != test.want {
				t.Errorf("%s: got %t", name, got)
			}
		}
	})
}

// runChains runs the chains until the test ends.
func runChains(t *testing.T, chains ...*Chain) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for _, c := range chains {
		group.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("run %s: %v", c.Name, err)
			}
		})
	}
	synctest.Wait()
	return func() {
		cancel()
		group.Wait()
	}
}

// A composite of a composite gets the changes of every member.
func TestNewLocal_ForwardsChangesOfItsMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, s := memberInState(t, "first", backends.BreakerClosed)
		second, s2 := memberInState(t, "second", backends.BreakerClosed)
		joint := compositeOf(backends.PolicyAllow, nil, first, second)
		outer := compositeOf(backends.PolicyAllow, nil, joint)
		stop := runChains(t, joint, outer)
		changed, done := outer.subscribe()
		defer done()
		woken := func() bool {
			synctest.Wait()
			select {
			case <-changed:
				return true
			default:
				return false
			}
		}
		if !woken() || woken() {
			t.Error("want one signal at the start, so that no state is lost")
		}
		openBreaker(t, first.Breaker, s)
		if !woken() || outer.State() != backends.BreakerClosed {
			t.Errorf("state %s: want a signal when a member opens, and the other's state", outer.State())
		}
		openBreaker(t, second.Breaker, s2)
		if !woken() || outer.State() != backends.BreakerOpen {
			t.Errorf("state %s: want a signal when the last member opens, and open", outer.State())
		}
		if woken() {
			t.Error("want no signal while nothing changes")
		}
		stop()
		if n := len(*joint.changes.subscribers.Load()) + len(*first.Breaker.changes.subscribers.Load()); n != 0 {
			t.Errorf("%d still listen after the end", n)
		}
	})
}

func TestNewLocal_LogsEachOutageOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		first, s := memberInState(t, "first", backends.BreakerClosed)
		second, s2 := memberInState(t, "second", backends.BreakerClosed)
		joint := compositeOf(backends.PolicyKeep, slog.New(slog.NewTextHandler(&out, nil)), first, second)
		stop := runChains(t, first, second, joint)
		openBreaker(t, first.Breaker, s)
		synctest.Wait()
		if out.Len() > 0 {
			t.Errorf("one of two members is unavailable, and the composite logs:\n%s", out.String())
		}
		openBreaker(t, second.Breaker, s2)
		synctest.Wait()
		time.Sleep(DefaultBreakerConfig().OpenDuration + 2*time.Second) // half-open is still unavailable
		for i := range 5 {
			_, _ = joint.Check(t.Context(), openingFrom(i))
			synctest.Wait()
		}
		stop()
		log := out.String()
		if strings.Count(log, "msg=\"backend unavailable\" backend=joint on_failure=keep") != 1 ||
			strings.Count(log, "msg=\"backend recovered\" backend=joint") != 1 || strings.Count(log, "\n") != 2 {
			t.Errorf("want one line when joint becomes unavailable and one when it recovers, got:\n%s", log)
		}
	})
}

// OnSent is called once: at once by a local chain, and by the first member that is asked of a composite.
func TestNewLocal_OnSentCalledOnce(t *testing.T) {
	t.Parallel()
	const queue = 300 * time.Millisecond
	no := answerWith(backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend})
	slow := func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		select {
		case <-time.After(queue):
			return no(ctx, r)
		case <-ctx.Done():
			return backends.Decision{}, ctx.Err()
		}
	}
	tests := map[string]struct {
		make  func() (c *Chain, busy *Chain)
		calls int32
		after time.Duration
	}{
		"decided here": {func() (*Chain, *Chain) {
			return NewLocal("users", backends.Policy(0), no, nil, Deps{}), nil
		}, 1, 0},
		"two members are asked": {func() (*Chain, *Chain) {
			unsure := answerWith(backends.Decision{})
			return compositeOf(backends.PolicyAllow, nil, newTestChain(backends.PolicyAllow, unsure), newTestChain(backends.PolicyAllow, unsure)), nil
		}, 1, 0},
		"a joint member is asked": {func() (*Chain, *Chain) {
			return compositeOf(backends.PolicyAllow, nil, compositeOf(backends.PolicyAllow, nil, newTestChain(backends.PolicyAllow, no))), nil
		}, 1, 0},
		"the member has it in its queue first": {func() (*Chain, *Chain) {
			cfg := DefaultConfig()
			cfg.Bulkhead.MaxInFlight = 1
			m := New("portal", cfg, backends.BackendFunc(slow), Deps{})
			return compositeOf(backends.PolicyAllow, nil, m), m
		}, 1, queue},
		"no member is asked": {func() (*Chain, *Chain) {
			return NewLocal("joint", backends.PolicyAllow, no, []*Chain{newTestChain(backends.PolicyAllow, no)}, Deps{}), nil
		}, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, busy := tt.make()
				if busy != nil {
					go func() { _, _ = busy.Check(t.Context(), openingFrom(2)) }()
					synctest.Wait()
				}
				var calls atomic.Int32
				started, after := time.Now(), time.Duration(0)
				r := openingFrom(1)
				r.OnSent = func() {
					calls.Add(1)
					after = time.Since(started)
				}
				if d, err := c.Check(t.Context(), r); err != nil || d.Verdict != backends.Denied {
					t.Fatalf("got %s, error %v; want denied", d.Verdict, err)
				}
				if calls.Load() != tt.calls || after != tt.after {
					t.Errorf("called %d times, after %s; want %d after %s", calls.Load(), after, tt.calls, tt.after)
				}
				r.OnSent = nil
				if d, err := c.Check(t.Context(), r); err != nil || d.Verdict != backends.Denied {
					t.Errorf("got %s, error %v without OnSent; want denied", d.Verdict, err)
				}
			})
		})
	}
}

// Members may be asked concurrently. OnSent need not be safe for that.
func TestNewLocal_OnSentCalledOnceByConcurrentMembers(t *testing.T) {
	t.Parallel()
	both := backends.BackendFunc(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
		var group sync.WaitGroup
		for range 16 {
			group.Go(r.OnSent)
		}
		group.Wait()
		return backends.Decision{Verdict: backends.Denied}, nil
	})
	c := NewLocal("joint", backends.PolicyAllow, both, []*Chain{newTestChain(backends.PolicyAllow, backends.BackendFunc(allow))}, Deps{})
	calls, r := 0, openingFrom(1)
	r.OnSent = func() { calls++ }
	_, _ = c.Check(t.Context(), r)
	if calls != 1 {
		t.Errorf("called %d times, want once", calls)
	}
	if r.OnSent(); calls != 2 {
		t.Error("the caller's request was changed")
	}
}

// Pending becomes a denial of the whole chain, and stays Pending for a composite that asks the chain as a member.
func TestNewLocal_PendingDeniedByTheWholeChainAlone(t *testing.T) {
	t.Parallel()
	const none = "no rule speaks for the viewer"
	tests := map[string]struct {
		said, settled backends.Decision
	}{
		"nothing":               {backends.Decision{}, backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: none}},
		"a reason is kept":      {backends.Decision{Reason: "no token"}, backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: "no token"}},
		"denied stays denied":   {backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}},
		"allowed stays allowed": {backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal}, backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal}},
		"the user is named":     {backends.Decision{UserID: "u1"}, backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: none, UserID: "u1"}},
	}
	for name, tt := range tests {
		for _, policy := range []backends.Policy{backends.PolicyAllow, backends.PolicyKeep, backends.PolicyDeny} {
			t.Run(name+" under "+policy.String(), func(t *testing.T) {
				t.Parallel()
				c := NewLocal("users", policy, answerWith(tt.said), nil, Deps{})
				for _, r := range []*backends.Request{openingFrom(1), recheckFrom(1)} {
					d, err := c.Check(t.Context(), r)
					if diff := cmp.Diff(tt.settled, d); err != nil || diff != "" {
						t.Errorf("alone: error %v, decision (-want +got):\n%s", err, diff)
					}
					d, err = c.WithoutFailOpen().Check(t.Context(), r)
					if diff := cmp.Diff(tt.said, d); err != nil || diff != "" {
						t.Errorf("joined: error %v, decision (-want +got):\n%s", err, diff)
					}
				}
			})
		}
	}
}

// The composite's outage policy holds: a member's own is ignored, and an error stays an error.
func TestChain_WithoutFailOpen_IgnoresTheMembersPolicy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		member, joint backends.Policy
		kind          backends.FailureKind
		unknown       string
		watching      string
	}{
		"a member that allows, joined under deny":     {backends.PolicyAllow, backends.PolicyDeny, backends.FailureTransport, "denied fail-open", "denied fail-open"},
		"a member that denies, joined under allow":    {backends.PolicyDeny, backends.PolicyAllow, backends.FailureTransport, "allowed fail-open", "allowed cached"},
		"a member that denies, joined under keep":     {backends.PolicyDeny, backends.PolicyKeep, backends.FailureTransport, "failure", "allowed cached"},
		"a failure that the viewer may have caused":   {backends.PolicyAllow, backends.PolicyAllow, backends.FailureStatus, "failure", "allowed cached"},
		"the default policy where none is configured": {backends.PolicyDeny, backends.Policy(0), backends.FailureTransport, "allowed fail-open", "allowed cached"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := compositeOf(tt.joint, nil, newTestChain(tt.member, failWith(tt.kind)))
			for want, r := range map[string]*backends.Request{tt.unknown: openingFrom(1), tt.watching: recheckFrom(1)} {
				got := "failure"
				if d, err := c.Check(t.Context(), r); err == nil {
					got = d.Verdict.String() + " " + d.Source.String()
				} else if backends.AsFailure(err) == nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if _, err := c.WithoutFailOpen().Check(t.Context(), openingFrom(1)); backends.AsFailure(err) == nil {
				t.Errorf("joined: got %v, want the failure", err)
			}
		})
	}
}

func TestNewLocal_OtherErrorsUnchanged(t *testing.T) {
	t.Parallel()
	for _, want := range []error{context.Canceled, backends.NewOverload("backends.portal.max_in_flight", 1)} {
		refused := backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) { return backends.Decision{}, want })
		c := NewLocal("joint", backends.PolicyAllow, refused, nil, Deps{})
		if d, err := c.Check(t.Context(), openingFrom(1)); !errors.Is(err, want) || d != (backends.Decision{}) {
			t.Errorf("got %s and error %v, want %v", d.Verdict, err, want)
		}
	}
}

func TestLocalConfig_Validate(t *testing.T) {
	t.Parallel()
	cfg := DefaultLocalConfig()
	if err := cfg.Validate(); err != nil {
		t.Errorf("the defaults are invalid: %v", err)
	}
	cfg.AnswerDeadline = 0
	if got, want := errorText(cfg.Validate()), "answer_deadline: 0s must be above 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkNewLocal(b *testing.B) {
	decider := NewLocal("users", backends.PolicyAllow, backends.BackendFunc(allow), nil, Deps{})
	joint := compositeOf(backends.PolicyAllow, nil, newTestChain(backends.PolicyAllow, backends.BackendFunc(allow)))
	for name, c := range map[string]*Chain{"decides": decider, "joins": joint} {
		b.Run(name, func(b *testing.B) {
			r := openingFrom(1)
			r.OnSent = func() {}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Check(b.Context(), r)
			}
		})
	}
}
