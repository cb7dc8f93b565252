package backends

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func standingOn(v Verdict, s Source) *Request {
	return &Request{
		Number:   3,
		Standing: Decision{Verdict: v, Source: s, Reason: "as before", User: "alice", ValidFor: time.Minute},
	}
}

// TestInstead walks every policy, every kind of viewer and every kind of failure.
func TestInstead(t *testing.T) {
	t.Parallel()
	transport := &Failure{Kind: FailureTransport, Backend: "portal"}
	status := &Failure{Kind: FailureStatus, Backend: "portal", Status: 503}
	malformed := &Failure{Kind: FailureMalformed, Backend: "portal"}
	open := &Failure{Kind: FailureBreakerOpen, Backend: "portal"}
	unknown := &Request{}

	admitted := func(why string) Decision {
		return Decision{Verdict: Allowed, Source: FromFailOpen, Reason: "nobody answered: " + why}
	}
	kept := func(v Verdict, s Source) Decision {
		return Decision{Verdict: v, Source: s, Reason: "as before", User: "alice"}
	}
	refused := Decision{Verdict: Denied, Source: FromFailOpen, Reason: "backends.portal.on_failure=deny"}
	nobody := Decision{}

	tests := map[string]struct {
		policy Policy
		down   bool
		r      *Request
		err    error
		want   Decision
		fails  bool
	}{
		"allow lets in an unknown viewer if nobody could be reached": {PolicyAllow, false, unknown, transport, admitted("transport"), false},
		"allow lets in an unknown viewer whose time to wait is over": {PolicyAllow, false, unknown, nil, admitted("timeout"), false},
		"allow lets in an unknown viewer while the breaker is open":  {PolicyAllow, true, unknown, open, admitted("breaker-open"), false},
		"a status lets nobody in while the breaker is closed":        {PolicyAllow, false, unknown, status, nobody, true},
		"a status lets in while the breaker is open":                 {PolicyAllow, true, unknown, status, admitted("status"), false},
		"a malformed answer lets nobody in while it is closed":       {PolicyAllow, false, unknown, malformed, nobody, true},
		"a malformed answer lets in while the breaker is open":       {PolicyAllow, true, unknown, malformed, admitted("malformed"), false},
		"allow keeps a yes":                          {PolicyAllow, false, standingOn(Allowed, FromBackend), transport, kept(Allowed, FromLastKnown), false},
		"allow keeps a yes on a status too":          {PolicyAllow, false, standingOn(Allowed, FromBackend), status, kept(Allowed, FromLastKnown), false},
		"allow keeps a no":                           {PolicyAllow, true, standingOn(Denied, FromBackend), open, kept(Denied, FromLastKnown), false},
		"a fail-open yes stays fail-open":            {PolicyAllow, true, standingOn(Allowed, FromFailOpen), open, kept(Allowed, FromFailOpen), false},
		"a ticket's yes stays a ticket's":            {PolicyKeep, true, standingOn(Allowed, FromTicket), open, kept(Allowed, FromTicket), false},
		"keep asks an unknown viewer to come back":   {PolicyKeep, true, unknown, open, nobody, true},
		"keep asks him to come back whatever it was": {PolicyKeep, false, unknown, transport, nobody, true},
		"keep keeps a yes":                           {PolicyKeep, true, standingOn(Allowed, FromBackend), open, kept(Allowed, FromLastKnown), false},
		"deny refuses an unknown viewer":             {PolicyDeny, false, unknown, transport, refused, false},
		"deny refuses one who watches":               {PolicyDeny, true, standingOn(Allowed, FromBackend), open, refused, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := NewFailOpen("portal", tt.policy, nil, func() bool { return tt.down }, nil)
			got, err := f.Instead(tt.r, tt.err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if tt.fails && !errors.Is(err, tt.err) || !tt.fails && err != nil {
				t.Errorf("got error %v, want failing=%t with the failure itself", err, tt.fails)
			}
		})
	}
}

func TestFailOpenPassesOnWhatIsNoFailure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		d   Decision
		err error
	}{
		"a yes":                {Decision{Verdict: Allowed, Source: FromBackend, ValidFor: time.Hour}, nil},
		"a no":                 {Decision{Verdict: Denied, Source: FromBackend}, nil},
		"an overload":          {Decision{}, &Overload{Setting: "backends.portal.max_in_flight", Value: 256}},
		"a viewer who left":    {Decision{}, context.Canceled},
		"the caller's own end": {Decision{}, context.DeadlineExceeded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, policy := range []Policy{PolicyAllow, PolicyKeep, PolicyDeny} {
				f := NewFailOpen("portal", policy, BackendFunc(func(context.Context, *Request) (Decision, error) {
					return tt.d, tt.err
				}), func() bool { return true }, nil)
				d, err := f.Check(t.Context(), &Request{})
				if diff := cmp.Diff(tt.d, d); diff != "" {
					t.Errorf("%s: decision (-want +got):\n%s", policy, diff)
				}
				if !errors.Is(err, tt.err) {
					t.Errorf("%s: got error %v, want %v", policy, err, tt.err)
				}
			}
		})
	}
}

func TestFailOpenCounts(t *testing.T) {
	t.Parallel()
	f := NewFailOpen("portal", PolicyAllow, fails(FailureTransport), nil, nil)
	_, _ = f.Check(t.Context(), &Request{})
	_, _ = f.Check(t.Context(), standingOn(Allowed, FromBackend))
	_, _ = f.Check(t.Context(), standingOn(Allowed, FromBackend))
	_, _ = f.Instead(&Request{}, &Failure{Kind: FailureStatus})
	admitted, kept, refused := f.Counts()
	if admitted != 1 || kept != 2 || refused != 1 {
		t.Errorf("got %d admitted, %d kept, %d refused, want 1, 2, 1", admitted, kept, refused)
	}
}

func TestEachChangeIsLoggedOnceWithItsPrice(t *testing.T) {
	t.Parallel()
	tests := map[Policy]string{
		PolicyAllow: "from now on unknown viewers are let in unchecked",
		PolicyKeep:  "from now on unknown viewers are asked to come back",
		PolicyDeny:  "from now on every viewer is refused",
	}
	for policy, want := range tests {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var (
					out  bytes.Buffer
					down atomic.Bool
				)
				changed := make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				f := NewFailOpen("portal", policy, nil, down.Load, slog.New(slog.NewTextHandler(&out, nil)))
				go func() { _ = f.Watch(ctx, changed) }()
				changed <- struct{}{}
				down.Store(true)
				changed <- struct{}{} // open
				changed <- struct{}{} // half-open
				changed <- struct{}{} // open again
				time.Sleep(30 * time.Second)
				down.Store(false)
				changed <- struct{}{}
				changed <- struct{}{}
				synctest.Wait()
				log := out.String()
				if strings.Count(log, "\n") != 2 || !strings.Contains(log, want) ||
					!strings.Contains(log, "level=WARN msg=\"backend is away\"") ||
					!strings.Contains(log, "level=INFO msg=\"backend is back\" backend=portal away=30s") {
					t.Errorf("want one warning with %q and one info, got:\n%s", want, log)
				}
			})
		})
	}
}

func TestPolicyText(t *testing.T) {
	t.Parallel()
	for _, want := range []Policy{PolicyOfPreset, PolicyAllow, PolicyKeep, PolicyDeny} {
		text, _ := want.MarshalText()
		var got Policy
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %d with error %v, want %d", text, got, err, want)
		}
	}
	var p Policy
	if got, want := errorText(p.UnmarshalText([]byte("open"))), `on_failure "open": want allow, keep or deny`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
