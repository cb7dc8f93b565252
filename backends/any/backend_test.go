package anyof

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

func TestBackend_Contract(t *testing.T) {
	backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
		cfg := httpbackend.DefaultConfig()
		cfg.Address = s.URL() + "/check"
		client, err := httpbackend.NewClient("portal", cfg, httpbackend.Deps{})
		if err != nil {
			t.Fatalf("make the member: %v", err)
		}
		return closableBackend{newBackend(t, backends.BackendFunc(
			func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
				return client.Decide(ctx, httpbackend.Call{Query: r.Query, Header: httpbackend.AstraHeaders(r)})
			})), client.Close}
	})
}

// closableBackend is a backend whose member has connections to close.
type closableBackend struct {
	*Backend
	close func()
}

func (c closableBackend) Close() { c.close() }

// newBackend joins members named a, b and so on, with validities of one minute, two and so on.
func newBackend(t testing.TB, members ...backends.Backend) *Backend {
	t.Helper()
	var (
		cfg    Config
		joined []backends.Member
	)
	for i, m := range members {
		name := string(rune('a' + i))
		cfg.Backends = append(cfg.Backends, name)
		joined = append(joined, backends.Member{Name: name, Backend: m, Validity: time.Duration(i+1) * time.Minute})
	}
	b, err := New("both", cfg, joined)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	return b
}

func decidingBackend(d backends.Decision) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return d, nil }
}

func failingBackend(err error) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return backends.Decision{}, err }
}

func failingWith(kind backends.FailureKind) backends.BackendFunc {
	return failingBackend(&backends.Failure{Kind: kind, Backend: kind.String()})
}

// delayed answers as next does, after a delay.
func delayed(delay time.Duration, next backends.BackendFunc) backends.BackendFunc {
	return func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		select {
		case <-time.After(delay):
			return next(ctx, r)
		case <-ctx.Done():
			return backends.Decision{}, ctx.Err()
		}
	}
}

// ignoringContext ends only when released, whatever its context says.
func ignoringContext(release <-chan struct{}) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		<-release
		return backends.Decision{}, nil
	}
}

func allowingBackend() backends.BackendFunc {
	return decidingBackend(backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200",
		UserID: "u1", User: "alice", MaxSessions: 2, Unique: true,
	})
}

func denyingBackend(reason, redirect string) backends.BackendFunc {
	return decidingBackend(backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason, Redirect: redirect,
	})
}

func pendingBackend() backends.BackendFunc { return decidingBackend(backends.Decision{}) }

func overloadError() error { return backends.NewOverload("backends.a.max_in_flight", 256) }

func TestCheck_HighestRankDecides(t *testing.T) {
	t.Parallel()
	denied := func(reason, redirect string) backends.Decision {
		return backends.Decision{
			Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason, Redirect: redirect,
		}
	}
	allowed := func(name string, validFor time.Duration) backends.Decision {
		return backends.Decision{
			Verdict: backends.Allowed, Source: backends.FromBackend, Reason: name + ": backend answered 200",
			UserID: "u1", User: "alice", MaxSessions: 2, Unique: true, ValidFor: validFor,
		}
	}
	none := backends.Decision{}
	transport, timeout := failingWith(backends.FailureTransport), failingWith(backends.FailureTimeout)
	status, malformed := failingWith(backends.FailureStatus), failingWith(backends.FailureMalformed)
	open := failingWith(backends.FailureBreakerOpen)
	tests := map[string]struct {
		members []backends.Backend
		want    backends.Decision
		err     string
	}{
		"one allowed is enough":              {[]backends.Backend{denyingBackend("x", ""), allowingBackend()}, allowed("b", 2*time.Minute), ""},
		"a decision with a validity":         {[]backends.Backend{decidingBackend(allowed("", time.Hour)), pendingBackend()}, allowed("a: ", time.Hour), ""},
		"allowed over a failure":             {[]backends.Backend{transport, allowingBackend()}, allowed("b", 2*time.Minute), ""},
		"allowed over an overload":           {[]backends.Backend{failingBackend(overloadError()), allowingBackend()}, allowed("b", 2*time.Minute), ""},
		"allowed over a panic":               {[]backends.Backend{panicking("x"), allowingBackend()}, allowed("b", 2*time.Minute), ""},
		"the first denial in order is shown": {[]backends.Backend{denyingBackend("first", "http://promo.example/"), denyingBackend("x", "http://other.example/")}, denied("a: first", "http://promo.example/"), ""},
		"the first denial, without redirect": {[]backends.Backend{pendingBackend(), denyingBackend("first", ""), denyingBackend("x", "http://other.example/")}, denied("b: first", ""), ""},
		"denied over no opinion":             {[]backends.Backend{pendingBackend(), denyingBackend("not paid", "")}, denied("b: not paid", ""), ""},
		"no member has an opinion":           {[]backends.Backend{pendingBackend(), pendingBackend()}, backends.Decision{Reason: "a: pending"}, ""},
		"a failure beside a denial":          {[]backends.Backend{denyingBackend("x", ""), transport}, none, `check backend "transport": transport`},
		"a status beside a denial":           {[]backends.Backend{denyingBackend("x", ""), status}, none, `check backend "status": status 0`},
		"a failure beside no opinion":        {[]backends.Backend{pendingBackend(), malformed}, none, `check backend "malformed": malformed`},
		"the network before a status":        {[]backends.Backend{status, transport}, none, `check backend "transport": transport`},
		"a timeout before a malformed":       {[]backends.Backend{malformed, timeout}, none, `check backend "timeout": timeout`},
		"an open breaker before a status":    {[]backends.Backend{status, open}, none, `check backend "breaker-open": breaker-open`},
		"of equal failures the first":        {[]backends.Backend{open, transport}, none, `check backend "breaker-open": breaker-open`},
		"an overload before a failure":       {[]backends.Backend{transport, failingBackend(overloadError())}, none, "overloaded: backends.a.max_in_flight=256 reached"},
		"an overload before a denial":        {[]backends.Backend{failingBackend(overloadError()), denyingBackend("x", "")}, none, "overloaded: backends.a.max_in_flight=256 reached"},
		"an error of no kind":                {[]backends.Backend{failingBackend(errors.New("odd")), pendingBackend()}, none, `check backend "a": malformed: odd`},
		"a deadline of the member's own":     {[]backends.Backend{failingBackend(context.DeadlineExceeded)}, none, `check backend "a": timeout: no response before the check ended: context deadline exceeded`},
		"a member that cancels itself":       {[]backends.Backend{failingBackend(context.Canceled)}, none, `check backend "a": malformed: canceled by the backend itself`},
		"a panic hides viewer input":         {[]backends.Backend{panicking("token=5ecret"), pendingBackend()}, none, `check backend "a": malformed: panic of type string`},
		"the runtime's panic is shown":       {[]backends.Backend{crashing(), pendingBackend()}, none, `check backend "a": malformed: panic: runtime error: index out of range [0] with length 0`},
		"a goroutine that ends":              {[]backends.Backend{exiting(), pendingBackend()}, none, `check backend "a": malformed: the backend's goroutine ended`},
		"allowed without a reason": {
			[]backends.Backend{decidingBackend(backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal})},
			backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "a: allowed", ValidFor: time.Minute},
			"",
		},
		"the first challenge of any member beside a denial": {
			[]backends.Backend{
				denyingBackend("x", ""), decidingBackend(backends.Decision{Challenge: "B"}),
				decidingBackend(backends.Decision{Verdict: backends.Denied, Challenge: "C"}),
			},
			backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "a: x", Challenge: "B"},
			"",
		},
		"no challenge beside a yes": {
			[]backends.Backend{decidingBackend(backends.Decision{Challenge: "A"}), decidingBackend(allowed("", time.Hour))},
			allowed("b: ", time.Hour),
			"",
		},
		"a fallback gets no validity": {
			[]backends.Backend{decidingBackend(backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen, Reason: "x"})},
			backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen, Reason: "a: x"},
			"",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := newBackend(t, tt.members...).Check(t.Context(), backendtest.NewRequest("123"))
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if got := errorText(err); got != tt.err {
				t.Errorf("got error %q, want %q", got, tt.err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func panicking(reason any) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { panic(reason) }
}

func crashing() backends.BackendFunc {
	return func(_ context.Context, r *backends.Request) (backends.Decision, error) {
		return backends.Decision{Reason: r.Headers[0].Name}, nil
	}
}

func exiting() backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		runtime.Goexit()
		return backends.Decision{}, nil
	}
}

func TestCheck_FirstAllowedCancelsOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cancelled atomic.Int32
		slow := func(ctx context.Context, _ *backends.Request) (backends.Decision, error) {
			<-ctx.Done()
			cancelled.Add(1)
			return backends.Decision{}, ctx.Err()
		}
		b := newBackend(t, backends.BackendFunc(slow), delayed(20*time.Millisecond, allowingBackend()),
			delayed(10*time.Millisecond, denyingBackend("x", "")), delayed(30*time.Millisecond, allowingBackend()))
		started := time.Now()
		d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
		if err != nil || d.Reason != "b: backend answered 200" || time.Since(started) != 20*time.Millisecond {
			t.Errorf("got %q, error %v after %s; want b's decision after 20ms", d.Reason, err, time.Since(started))
		}
		synctest.Wait()
		if cancelled.Load() != 1 {
			t.Errorf("got %d calls cancelled, want 1", cancelled.Load())
		}
	})
}

func TestCheck_MemberIgnoresContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		b := newBackend(t, ignoringContext(release), delayed(time.Millisecond, allowingBackend()))
		started := time.Now()
		if d, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil || d.Verdict != backends.Allowed {
			t.Errorf("got %s, error %v; want allowed", d.Verdict, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err := newBackend(t, ignoringContext(release)).Check(ctx, backendtest.NewRequest("123"))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v for a viewer who left, want context.Canceled", err)
		}
		if took := time.Since(started); took != 2*time.Millisecond {
			t.Errorf("both took %s, want 2ms", took)
		}
	})
}

// Abandoned calls are bounded, and reaching the bound allows no viewer.
func TestMember_AbandonedCallsAreBounded(t *testing.T) {
	t.Parallel()
	release, running := make(chan struct{}), make(chan struct{})
	stuck := &backendtest.Fake{CheckFunc: func(context.Context, *backends.Request) (backends.Decision, error) {
		running <- struct{}{}
		<-release
		return backends.Decision{}, nil
	}}
	var full atomic.Bool
	b := newBackend(t, stuck, backends.BackendFunc(
		func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if full.Load() {
				return failingWith(backends.FailureTransport)(ctx, r)
			}
			<-running
			return allowingBackend()(ctx, r)
		}))
	for range maxAbandonedCalls {
		if d, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil || d.Verdict != backends.Allowed {
			t.Fatalf("got %s, error %v; want allowed", d.Verdict, err)
		}
	}
	full.Store(true)
	_, err := b.Check(t.Context(), backendtest.NewRequest("123"))
	want := "overloaded: backends.both.backends: unfinished calls to a=4096 reached"
	if errorText(err) != want || stuck.Calls() != maxAbandonedCalls {
		t.Errorf("got %v after %d calls; want %q after %d", err, stuck.Calls(), want, maxAbandonedCalls)
	}
	close(release)
	for b.members[0].runningCalls.Load() > 0 {
		runtime.Gosched()
	}
	full.Store(false)
	if d, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil || stuck.Calls() != maxAbandonedCalls+1 {
		t.Errorf("got %s, error %v after %d calls; want another call once they ended", d.Verdict, err, stuck.Calls())
	}
}

func TestCheck_ViewerLeaves_NoFailure(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	hang := delayed(time.Hour, allowingBackend())
	for name, members := range map[string][]backends.Backend{
		"while all hang":                {hang, hang},
		"while one failed":              {failingWith(backends.FailureTransport), hang},
		"although all failed meanwhile": {failingWith(backends.FailureTransport)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, leave := context.WithCancel(t.Context())
			members := append([]backends.Backend{backends.BackendFunc(
				func(context.Context, *backends.Request) (backends.Decision, error) {
					leave()
					return backends.Decision{Verdict: backends.Denied}, nil
				})}, members...)
			_, err := newBackend(t, members...).Check(ctx, backendtest.NewRequest("123"))
			if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil {
				t.Errorf("got %v, want context.Canceled and no failure", err)
			}
		})
	}
	var member backendtest.Fake
	_, err := newBackend(t, &member).Check(gone, backendtest.NewRequest("123"))
	if errorText(err) != `check backend "both": context canceled` || member.Calls() != 0 {
		t.Errorf("got %v and %d calls for a viewer who left before", err, member.Calls())
	}
}

func TestCheck_Deadline(t *testing.T) {
	t.Parallel()
	queue := func(ctx context.Context, _ *backends.Request) (backends.Decision, error) {
		<-ctx.Done()
		return backends.Decision{}, overloadError()
	}
	tests := map[string]struct {
		other backends.BackendFunc
		want  string
		after time.Duration
	}{
		"a hanging member is a timeout": {delayed(time.Hour, allowingBackend()), `check backend "a": timeout: no response before the check ended: context deadline exceeded`, time.Second},
		"a queued member that says so late": {func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond) // a busy machine
			return queue(ctx, r)
		}, "overloaded: backends.a.max_in_flight=256 reached", 1050 * time.Millisecond},
		"a queued member is an overload":        {queue, "overloaded: backends.a.max_in_flight=256 reached", time.Second},
		"a member that ignores it is a timeout": {nil, `check backend "b": timeout: no response before the check ended: context deadline exceeded`, time.Second + lateResultWait},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				first := delayed(time.Hour, allowingBackend())
				other := tt.other
				if other == nil {
					first, other = denyingBackend("x", ""), ignoringContext(release)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				started := time.Now()
				_, err := newBackend(t, first, other).Check(ctx, backendtest.NewRequest("123"))
				if errorText(err) != tt.want || time.Since(started) != tt.after {
					t.Errorf("got %v after %s, want %q after %s", err, time.Since(started), tt.want, tt.after)
				}
			})
		})
	}
}

// A re-check goes to all members again, and each gets the request unchanged.
func TestCheck_MembersGetUnchangedRequest(t *testing.T) {
	t.Parallel()
	var first, second backendtest.Fake
	first.CheckFunc, second.CheckFunc = denyingBackend("x", ""), denyingBackend("y", "")
	b := newBackend(t, &first, &second)
	for number := range 3 {
		r := backendtest.NewRequest("123")
		r.Number, r.Bytes, r.Headers = number, 4711, []backends.Header{{Name: "Cookie", Value: "sid=1"}}
		r.Current = backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "a: yes"}
		if _, err := b.Check(t.Context(), r); err != nil {
			t.Fatalf("check: %v", err)
		}
		for name, m := range map[string]*backendtest.Fake{"a": &first, "b": &second} {
			if diff := cmp.Diff([]backends.Request{*r}, m.Requests()[number:], cmpopts.EquateComparable(r.Address)); diff != "" {
				t.Errorf("check %d: request of %s (-want +got):\n%s", number, name, diff)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	r := backendtest.NewRequest("123")
	for name, members := range map[string][]backends.Backend{
		"allowed and denied": {allowingBackend(), denyingBackend("x", "")},
		"two denied":         {denyingBackend("x", ""), denyingBackend("y", "")},
		"two failures":       {failingWith(backends.FailureTransport), failingWith(backends.FailureStatus)},
	} {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			backend := newBackend(b, members...)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = backend.Check(b.Context(), r)
			}
		})
	}
}
