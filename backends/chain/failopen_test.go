package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func currentlyDecided(v backends.Verdict, s backends.Source) *backends.Request {
	return &backends.Request{
		Number:  3,
		Current: backends.Decision{Verdict: v, Source: s, Reason: "as before", User: "alice", ValidFor: time.Minute},
	}
}

// TestFailOpen_Fallback covers every policy, every kind of viewer and every kind of failure.
func TestFailOpen_Fallback(t *testing.T) {
	t.Parallel()
	transport := &backends.Failure{Kind: backends.FailureTransport, Backend: "portal"}
	status := &backends.Failure{Kind: backends.FailureStatus, Backend: "portal", Status: 503}
	malformed := &backends.Failure{Kind: backends.FailureMalformed, Backend: "portal"}
	open := &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}
	unknown := &backends.Request{}

	admitted := func(why string) backends.Decision {
		return backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen, Reason: "no answer: " + why}
	}
	kept := func(v backends.Verdict, s backends.Source) backends.Decision {
		return backends.Decision{Verdict: v, Source: s, Reason: "as before", User: "alice"}
	}
	refused := backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen, Reason: "backends.portal.on_failure=deny"}
	none := backends.Decision{}

	tests := map[string]struct {
		policy backends.Policy
		down   bool
		r      *backends.Request
		err    error
		want   backends.Decision
		fails  bool
	}{
		"allow admits an unknown viewer on a transport failure":     {backends.PolicyAllow, false, unknown, transport, admitted("transport"), false},
		"allow admits an unknown viewer who has waited long enough": {backends.PolicyAllow, false, unknown, nil, admitted("timeout"), false},
		"allow admits an unknown viewer while the breaker is open":  {backends.PolicyAllow, true, unknown, open, admitted("breaker-open"), false},
		"a status admits no viewer while the breaker is closed":     {backends.PolicyAllow, false, unknown, status, none, true},
		"a status admits while the breaker is open":                 {backends.PolicyAllow, true, unknown, status, admitted("status"), false},
		"a malformed answer admits no viewer while it is closed":    {backends.PolicyAllow, false, unknown, malformed, none, true},
		"a malformed answer admits while the breaker is open":       {backends.PolicyAllow, true, unknown, malformed, admitted("malformed"), false},
		"allow keeps an allowed viewer":                             {backends.PolicyAllow, false, currentlyDecided(backends.Allowed, backends.FromBackend), transport, kept(backends.Allowed, backends.FromCached), false},
		"allow keeps an allowed viewer on a status too":             {backends.PolicyAllow, false, currentlyDecided(backends.Allowed, backends.FromBackend), status, kept(backends.Allowed, backends.FromCached), false},
		"allow keeps a denied viewer":                               {backends.PolicyAllow, true, currentlyDecided(backends.Denied, backends.FromBackend), open, kept(backends.Denied, backends.FromCached), false},
		"a fail-open yes stays fail-open":                           {backends.PolicyAllow, true, currentlyDecided(backends.Allowed, backends.FromFailOpen), open, kept(backends.Allowed, backends.FromFailOpen), false},
		"a ticket's yes stays a ticket's":                           {backends.PolicyKeep, true, currentlyDecided(backends.Allowed, backends.FromTicket), open, kept(backends.Allowed, backends.FromTicket), false},
		"keep asks an unknown viewer to retry":                      {backends.PolicyKeep, true, unknown, open, none, true},
		"keep asks them to retry after any failure":                 {backends.PolicyKeep, false, unknown, transport, none, true},
		"keep keeps an allowed viewer":                              {backends.PolicyKeep, true, currentlyDecided(backends.Allowed, backends.FromBackend), open, kept(backends.Allowed, backends.FromCached), false},
		"deny refuses an unknown viewer":                            {backends.PolicyDeny, false, unknown, transport, refused, false},
		"deny refuses a running session":                            {backends.PolicyDeny, true, currentlyDecided(backends.Allowed, backends.FromBackend), open, refused, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := NewFailOpen("portal", tt.policy, nil, func() bool { return tt.down }, nil)
			got, err := f.Fallback(tt.r, tt.err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if tt.fails && !errors.Is(err, tt.err) || !tt.fails && err != nil {
				t.Errorf("got error %v, want failing=%t with the failure itself", err, tt.fails)
			}
		})
	}
}

// Where no breaker says that the backend is down, it never is.
func TestFailOpen_WithoutBreaker(t *testing.T) {
	t.Parallel()
	f := NewFailOpen("portal", backends.PolicyAllow, failWith(backends.FailureStatus), nil, nil)
	d, err := f.Check(t.Context(), &backends.Request{})
	if failure := backends.AsFailure(err); failure == nil || failure.Kind != backends.FailureStatus || d.Verdict != backends.Pending {
		t.Errorf("got %s and %v, want the status alone, which admits no viewer while the backend is not down", d.Verdict, err)
	}
}

func TestFailOpen_OtherResultsUnchanged(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		d   backends.Decision
		err error
	}{
		"allowed":              {backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, ValidFor: time.Hour}, nil},
		"denied":               {backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil},
		"an overload":          {backends.Decision{}, backends.NewOverload("backends.portal.max_in_flight", 256)},
		"a viewer who left":    {backends.Decision{}, context.Canceled},
		"the caller's own end": {backends.Decision{}, context.DeadlineExceeded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, policy := range []backends.Policy{backends.PolicyAllow, backends.PolicyKeep, backends.PolicyDeny} {
				f := NewFailOpen("portal", policy, backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) {
					return tt.d, tt.err
				}), func() bool { return true }, nil)
				d, err := f.Check(t.Context(), &backends.Request{})
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

// TestFailOpen_OnFailure_TellsWhyThereIsNoAnswer covers a viewer who keeps their decision, of which it tells nothing.
func TestFailOpen_OnFailure_TellsWhyThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	failure := &backends.Failure{Kind: backends.FailureStatus, Backend: "portal", Status: 503}
	tests := map[string]struct {
		err  error
		want *backends.Failure
	}{
		"an answer":                 {nil, nil},
		"a failure":                 {failure, failure},
		"a bound of Usher's own":    {backends.NewOverload("backends.portal.max_in_flight", 1), nil},
		"a viewer who has left":     {context.Canceled, nil},
		"a failure that is wrapped": {fmt.Errorf("ask: %w", failure), failure},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) {
				return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, test.err
			})
			var got []*backends.Failure
			r := currentlyDecided(backends.Allowed, backends.FromBackend)
			r.OnFailure = func(f *backends.Failure) { got = append(got, f) }
			f := NewFailOpen("portal", backends.PolicyAllow, next, nil, nil)
			if d, err := f.Check(t.Context(), r); err == nil && d.Verdict != backends.Allowed {
				t.Errorf("decision %+v, want allowed", d)
			}
			if want := test.want; want == nil && len(got) > 0 || want != nil && (len(got) != 1 || got[0] != want) {
				t.Errorf("told of %v, want %v once", got, want)
			}
		})
	}
}

func TestFailOpen_LogsEachTransitionOnceWithItsEffect(t *testing.T) {
	t.Parallel()
	tests := map[backends.Policy]string{
		backends.PolicyAllow: `effect="unknown viewers are admitted without a check, and running sessions are not re-checked"`,
		backends.PolicyKeep:  `effect="unknown viewers are asked to retry, and running sessions are not re-checked"`,
		backends.PolicyDeny:  `effect="viewers without a valid decision are refused, paying viewers too"`,
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
				go func() { _ = f.logOutages(ctx, changed) }()
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
					!strings.Contains(log, "level=WARN msg=\"backend unavailable\" backend=portal on_failure="+policy.String()) ||
					!strings.Contains(log, "level=INFO msg=\"backend recovered\" backend=portal on_failure="+policy.String()+" outage=30s") {
					t.Errorf("want one warning with %q and one info, got:\n%s", want, log)
				}
			})
		})
	}
}
