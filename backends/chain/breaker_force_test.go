package chain

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// order returns an order on the test backend, for ten minutes from now.
func order(version int64, state backends.BreakerState) backends.ForcedBreaker {
	return backends.ForcedBreaker{
		Backend: "portal", IsForced: true, State: state, Until: time.Now().Add(10 * time.Minute), Reason: "upgrade", By: "ops", Version: version,
	}
}

// forcedChain is a chain that runs, with what it logs and its new states.
type forcedChain struct {
	*Chain
	*switchable
	states []string

	mu  sync.Mutex
	log bytes.Buffer
}

// Write appends to the log.
func (c *forcedChain) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(p)
}

// Check asks the chain.
func (c *forcedChain) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return c.Chain.Check(ctx, r)
}

func runForcedChain(t *testing.T) *forcedChain {
	t.Helper()
	c := &forcedChain{switchable: &switchable{current: allow}}
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "until" {
			return slog.Attr{}
		}
		return a
	}
	c.Chain = New("portal", DefaultConfig(), c.switchable, Deps{
		OnState: func(s backends.BreakerState) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.states = append(c.states, s.String())
		},
		Log: slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{ReplaceAttr: noTime})),
	})
	t.Cleanup(runChains(t, c.Chain))
	return c
}

// logged returns the beginnings of what was logged since the last call.
func (c *forcedChain) logged() (lines []string) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(c.log.String()) {
		line, _, _ = strings.Cut(line, " backend=")
		lines = append(lines, line)
	}
	c.log.Reset()
	return lines
}

func (c *forcedChain) want(t *testing.T, what string, r *backends.Request, source backends.Source, calls int) {
	t.Helper()
	before := c.calls()
	d, err := c.Check(t.Context(), r)
	if err != nil || d.Verdict != backends.Allowed || d.Source != source || c.calls() != before+calls {
		t.Errorf("%s: got %s from %s, error %v, after %d calls; want allowed from %s after %d",
			what, d.Verdict, d.Source, err, c.calls()-before, source, calls)
	}
}

// TestChain_Force_Open sends no check until the order ends, and the outage policy answers at once.
func TestChain_Force_Open(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := runForcedChain(t)
		c.want(t, "before", openingFrom(1), backends.FromBackend, 1)
		opened := c.Breaker.opened()
		if err := c.Force(order(1, backends.BreakerOpen)); err != nil {
			t.Fatal(err)
		}
		<-opened // who waits for a slot gives up
		c.want(t, "an opening", openingFrom(2), backends.FromFailOpen, 0)
		c.want(t, "a re-check", recheckFrom(3), backends.FromCached, 0)
		time.Sleep(9 * time.Minute) // far longer than open_duration
		c.want(t, "no probe of a viewer", openingFrom(4), backends.FromFailOpen, 0)
		if c.State() != backends.BreakerOpen || !c.IsDown() || c.Forced().Reason != "upgrade" {
			t.Errorf("state %s, forced %+v", c.State(), c.Forced())
		}
		if diff := cmp.Diff([]string{`level=WARN msg="backend forced open by an operator"`}, c.logged()); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
		time.Sleep(61 * time.Second)
		c.want(t, "after its end", openingFrom(5), backends.FromBackend, 1)
		if c.IsDown() || c.Forced().IsForced {
			t.Errorf("state %s, forced %+v after the end", c.State(), c.Forced())
		}
		if diff := cmp.Diff([]string{`level=WARN msg="backend no longer forced"`}, c.logged()); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if want := []string{"open", "closed"}; !slices.Equal(c.states, want) {
			t.Errorf("states %v, want %v", c.states, want)
		}
	})
}

// TestChain_Force_Closed sends every check although all fail, and gives the breaker back its own state.
func TestChain_Force_Closed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := runForcedChain(t)
		openBreaker(t, c.Breaker, c.switchable)
		if diff := cmp.Diff([]string{`level=WARN msg="backend unavailable"`}, c.logged()); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
		c.setBackend(failWith(backends.FailureTransport))
		_ = c.Force(order(1, backends.BreakerClosed))
		if diff := cmp.Diff([]string{`level=WARN msg="backend forced closed by an operator"`}, c.logged()); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
		for i := range 50 {
			c.want(t, "while it fails", openingFrom(i), backends.FromFailOpen, 1)
		}
		if c.IsDown() {
			t.Errorf("state %s, want closed", c.State())
		}
		c.setBackend(allow)
		c.want(t, "once it answers", openingFrom(1), backends.FromBackend, 1)
		_ = c.Force(backends.ForcedBreaker{Backend: "portal", Version: 2})
		if c.State() == backends.BreakerClosed {
			t.Error("closed, want the breaker's own state")
		}
		if diff := cmp.Diff([]string{`level=WARN msg="backend no longer forced"`}, c.logged()); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
		time.Sleep(6 * time.Second)
		c.want(t, "its own probe", recheckFrom(2), backends.FromBackend, 1)
		if diff := cmp.Diff([]string{`level=INFO msg="backend recovered"`}, c.logged()); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
	})
}

// TestChain_Force_OutageMeanwhile logs an outage that begins unseen while the backend is forced open.
func TestChain_Force_OutageMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := runForcedChain(t)
		_ = c.Force(order(2, backends.BreakerOpen))
		_ = c.Force(order(1, backends.BreakerClosed)) // an older one that arrives later
		if c.State() != backends.BreakerOpen {
			t.Errorf("state %s, want open", c.State())
		}
		c.logged()
		_ = c.Force(backends.ForcedBreaker{Backend: "portal", Version: 3})
		synctest.Wait()
		openBreaker(t, c.Breaker, c.switchable)
		want := []string{`level=WARN msg="backend no longer forced"`, `level=WARN msg="backend unavailable"`}
		if diff := cmp.Diff(want, c.logged()); diff != "" {
			t.Errorf("logged (-want +got):\n%s", diff)
		}
	})
}

// TestChain_Force_Composite has a composite follow its forced member, and not be forced itself.
func TestChain_Force_Composite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		member, _ := memberInState(t, "first", backends.BreakerClosed)
		c := compositeOf(backends.PolicyAllow, nil, member)
		if err := c.Force(order(1, backends.BreakerOpen)); !errors.Is(err, ErrNoBreaker) {
			t.Errorf("got %v, want that it has no breaker", err)
		}
		if _, _, err := c.Probe(t.Context()); !errors.Is(err, ErrNoBreaker) || c.Forced().IsForced {
			t.Errorf("a probe: %v, want that it has no breaker", err)
		}
		if err := member.Force(order(1, backends.BreakerOpen)); err != nil || !c.IsDown() {
			t.Errorf("%v; the composite is %s, want open", err, c.State())
		}
	})
}

// TestChain_Probe asks about the viewer who was answered last, and moves nothing.
func TestChain_Probe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := runForcedChain(t)
		if _, _, err := c.Probe(t.Context()); !errors.Is(err, ErrNobodyToProbe) || c.calls() != 0 {
			t.Errorf("before any viewer: %v and %d calls", err, c.calls())
		}
		_, _ = c.Check(t.Context(), &backends.Request{Query: "token=ann"})
		openBreaker(t, c.Breaker, c.switchable)
		_ = c.Force(order(1, backends.BreakerOpen))
		var asked backends.Request
		c.setBackend(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			asked = *r
			time.Sleep(time.Second)
			return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
		})
		d, took, err := c.Probe(t.Context())
		if err != nil || d.Verdict != backends.Denied || took != time.Second || asked.Query != "token=ann" || !asked.IsRecheck {
			t.Errorf("got %s after %s, error %v, of %+v; want a denial of Ann's re-check", d.Verdict, took, err, asked)
		}
		c.setBackend(hang)
		go func() { _, _, _ = c.Probe(t.Context()) }()
		synctest.Wait()
		if _, _, err := c.Probe(t.Context()); !errors.Is(err, ErrProbeInFlight) {
			t.Errorf("a second one: %v", err)
		}
		time.Sleep(DefaultConfig().Timeout)
		synctest.Wait()
		_, took, err = c.Probe(t.Context())
		if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureTimeout || took != DefaultConfig().Timeout {
			t.Errorf("a hanging backend: %v after %s, want a timeout", err, took)
		}
		if c.State() != backends.BreakerOpen || !c.Forced().IsForced {
			t.Errorf("state %s: a probe moved it", c.State())
		}
	})
}
