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

func TestBackendPassesTheContract(t *testing.T) {
	backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
		cfg := httpbackend.DefaultConfig()
		cfg.URL = s.URL() + "/check"
		client, err := httpbackend.NewClient("portal", cfg, httpbackend.Deps{})
		if err != nil {
			t.Fatalf("make the member: %v", err)
		}
		return closing{newBackend(t, backends.BackendFunc(
			func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
				return client.Decide(ctx, httpbackend.Call{Query: r.Query, Header: httpbackend.AstraHeaders(r)})
			})), client.Close}
	})
}

// closing is a backend whose member has connections to close.
type closing struct {
	*Backend
	close func()
}

func (c closing) Close() { c.close() }

// newBackend joins members that are called a, b and so on, with a validity of a minute, two and so on.
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

func says(d backends.Decision) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return d, nil }
}

func fails(err error) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return backends.Decision{}, err }
}

func failing(kind backends.FailureKind) backends.BackendFunc {
	return fails(&backends.Failure{Kind: kind, Backend: kind.String()})
}

// after answers as next does, later.
func after(delay time.Duration, next backends.BackendFunc) backends.BackendFunc {
	return func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		select {
		case <-time.After(delay):
			return next(ctx, r)
		case <-ctx.Done():
			return backends.Decision{}, ctx.Err()
		}
	}
}

// deaf never ends before it is released, whatever its context says.
func deaf(release <-chan struct{}) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		<-release
		return backends.Decision{}, nil
	}
}

func allowing() backends.BackendFunc {
	return says(backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200",
		UserID: "u1", User: "alice", MaxSessions: 2, Unique: true,
	})
}

func denying(reason, redirect string) backends.BackendFunc {
	return says(backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason, Redirect: redirect,
	})
}

func unsure() backends.BackendFunc { return says(backends.Decision{}) }

func overload() error { return backends.NewOverload("backends.a.max_in_flight", 256) }

func TestWhoCounts(t *testing.T) {
	t.Parallel()
	no := func(reason, redirect string) backends.Decision {
		return backends.Decision{
			Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason, Redirect: redirect,
		}
	}
	of := func(name string, validFor time.Duration) backends.Decision {
		return backends.Decision{
			Verdict: backends.Allowed, Source: backends.FromBackend, Reason: name + ": backend answered 200",
			UserID: "u1", User: "alice", MaxSessions: 2, Unique: true, ValidFor: validFor,
		}
	}
	nobody := backends.Decision{}
	transport, timeout := failing(backends.FailureTransport), failing(backends.FailureTimeout)
	status, malformed := failing(backends.FailureStatus), failing(backends.FailureMalformed)
	open := failing(backends.FailureBreakerOpen)
	tests := map[string]struct {
		members []backends.Backend
		want    backends.Decision
		err     string
	}{
		"one yes is enough":               {[]backends.Backend{denying("x", ""), allowing()}, of("b", 2*time.Minute), ""},
		"a yes holds as long as it says":  {[]backends.Backend{says(of("", time.Hour)), unsure()}, of("a: ", time.Hour), ""},
		"a yes wins over a failure":       {[]backends.Backend{transport, allowing()}, of("b", 2*time.Minute), ""},
		"a yes wins over an overload":     {[]backends.Backend{fails(overload()), allowing()}, of("b", 2*time.Minute), ""},
		"a yes wins over a panic":         {[]backends.Backend{panics("x"), allowing()}, of("b", 2*time.Minute), ""},
		"the first no in order is shown":  {[]backends.Backend{denying("first", "http://promo.example/"), denying("x", "http://other.example/")}, no("a: first", "http://promo.example/"), ""},
		"the first no, without redirect":  {[]backends.Backend{unsure(), denying("first", ""), denying("x", "http://other.example/")}, no("b: first", ""), ""},
		"a no wins over no opinion":       {[]backends.Backend{unsure(), denying("not paid", "")}, no("b: not paid", ""), ""},
		"nobody has an opinion":           {[]backends.Backend{unsure(), unsure()}, backends.Decision{Reason: "a: pending"}, ""},
		"a failure beside a no":           {[]backends.Backend{denying("x", ""), transport}, nobody, `ask backend "transport": transport`},
		"a status beside a no":            {[]backends.Backend{denying("x", ""), status}, nobody, `ask backend "status": status 0`},
		"a failure beside no opinion":     {[]backends.Backend{unsure(), malformed}, nobody, `ask backend "malformed": malformed`},
		"the network before a status":     {[]backends.Backend{status, transport}, nobody, `ask backend "transport": transport`},
		"a timeout before a malformed":    {[]backends.Backend{malformed, timeout}, nobody, `ask backend "timeout": timeout`},
		"an open breaker before a status": {[]backends.Backend{status, open}, nobody, `ask backend "breaker-open": breaker-open`},
		"of equal failures the first":     {[]backends.Backend{open, transport}, nobody, `ask backend "breaker-open": breaker-open`},
		"an overload before a failure":    {[]backends.Backend{transport, fails(overload())}, nobody, "overloaded: backends.a.max_in_flight=256 reached"},
		"an overload before a no":         {[]backends.Backend{fails(overload()), denying("x", "")}, nobody, "overloaded: backends.a.max_in_flight=256 reached"},
		"an error of no kind":             {[]backends.Backend{fails(errors.New("odd")), unsure()}, nobody, `ask backend "a": malformed: odd`},
		"a deadline of the member's own":  {[]backends.Backend{fails(context.DeadlineExceeded)}, nobody, `ask backend "a": timeout: no answer before the check ended: context deadline exceeded`},
		"one that gave up by itself":      {[]backends.Backend{fails(context.Canceled)}, nobody, `ask backend "a": malformed: gave up by itself`},
		"a panic shows no viewer's words": {[]backends.Backend{panics("token=5ecret"), unsure()}, nobody, `ask backend "a": malformed: panic of type string`},
		"the runtime's panic is shown":    {[]backends.Backend{crashes(), unsure()}, nobody, `ask backend "a": malformed: panic: runtime error: index out of range [0] with length 0`},
		"a goroutine that ends":           {[]backends.Backend{exits(), unsure()}, nobody, `ask backend "a": malformed: the backend's goroutine ended`},
		"a yes without a reason": {
			[]backends.Backend{says(backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal})},
			backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "a: allowed", ValidFor: time.Minute},
			"",
		},
		"a stopgap's yes gets no validity": {
			[]backends.Backend{says(backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen, Reason: "x"})},
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

func panics(reason any) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { panic(reason) }
}

func crashes() backends.BackendFunc {
	return func(_ context.Context, r *backends.Request) (backends.Decision, error) {
		return backends.Decision{Reason: r.Headers[0].Name}, nil
	}
}

func exits() backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		runtime.Goexit()
		return backends.Decision{}, nil
	}
}

func TestTheFirstYesEndsTheCheckAndCancelsTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cancelled atomic.Int32
		slow := func(ctx context.Context, _ *backends.Request) (backends.Decision, error) {
			<-ctx.Done()
			cancelled.Add(1)
			return backends.Decision{}, ctx.Err()
		}
		b := newBackend(t, backends.BackendFunc(slow), after(20*time.Millisecond, allowing()),
			after(10*time.Millisecond, denying("x", "")), after(30*time.Millisecond, allowing()))
		started := time.Now()
		d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
		if err != nil || d.Reason != "b: backend answered 200" || time.Since(started) != 20*time.Millisecond {
			t.Errorf("got %q, error %v after %s; want b's yes after 20ms", d.Reason, err, time.Since(started))
		}
		synctest.Wait()
		if cancelled.Load() != 1 {
			t.Errorf("got %d calls cancelled, want 1", cancelled.Load())
		}
	})
}

func TestAMemberThatIgnoresItsContextHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		b := newBackend(t, deaf(release), after(time.Millisecond, allowing()))
		started := time.Now()
		if d, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil || d.Verdict != backends.Allowed {
			t.Errorf("got %s, error %v; want a yes", d.Verdict, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err := newBackend(t, deaf(release)).Check(ctx, backendtest.NewRequest("123"))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v for a viewer who left, want context.Canceled", err)
		}
		if took := time.Since(started); took != 2*time.Millisecond {
			t.Errorf("both took %s, want 2ms", took)
		}
	})
}

// Calls that nobody waits for are bounded, and the bound lets nobody in.
func TestAMemberThatDoesNotEndIsNotAskedForEver(t *testing.T) {
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
				return failing(backends.FailureTransport)(ctx, r)
			}
			<-running
			return allowing()(ctx, r)
		}))
	for range maxUnended {
		if d, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil || d.Verdict != backends.Allowed {
			t.Fatalf("got %s, error %v; want a yes", d.Verdict, err)
		}
	}
	full.Store(true)
	_, err := b.Check(t.Context(), backendtest.NewRequest("123"))
	want := "overloaded: backends.both.backends: calls of a that do not end=4096 reached"
	if errorText(err) != want || stuck.Calls() != maxUnended {
		t.Errorf("got %v after %d calls; want %q after %d", err, stuck.Calls(), want, maxUnended)
	}
	close(release)
	for b.members[0].running.Load() > 0 {
		runtime.Gosched()
	}
	full.Store(false)
	if d, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil || stuck.Calls() != maxUnended+1 {
		t.Errorf("got %s, error %v after %d calls; want it asked again once they ended", d.Verdict, err, stuck.Calls())
	}
}

func TestAViewerWhoLeavesIsNoFailure(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	hang := after(time.Hour, allowing())
	for name, members := range map[string][]backends.Backend{
		"while all hang":             {hang, hang},
		"while one failed":           {failing(backends.FailureTransport), hang},
		"though all failed meantime": {failing(backends.FailureTransport)},
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
	var asked backendtest.Fake
	_, err := newBackend(t, &asked).Check(gone, backendtest.NewRequest("123"))
	if errorText(err) != `ask backend "both": context canceled` || asked.Calls() != 0 {
		t.Errorf("got %v and %d calls for one who had left before", err, asked.Calls())
	}
}

func TestADeadlineOfTheCheckItself(t *testing.T) {
	t.Parallel()
	queue := func(ctx context.Context, _ *backends.Request) (backends.Decision, error) {
		<-ctx.Done()
		return backends.Decision{}, overload()
	}
	tests := map[string]struct {
		other backends.BackendFunc
		want  string
		after time.Duration
	}{
		"one that hangs is a timeout":       {after(time.Hour, allowing()), `ask backend "a": timeout: no answer before the check ended: context deadline exceeded`, time.Second},
		"one that waited in a queue is not": {queue, "overloaded: backends.a.max_in_flight=256 reached", time.Second},
		"one that ignores it is a timeout":  {nil, `ask backend "b": timeout: no answer before the check ended: context deadline exceeded`, time.Second + grace},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				first := after(time.Hour, allowing())
				other := tt.other
				if other == nil {
					first, other = denying("x", ""), deaf(release)
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

// A re-check goes to all members again, and each sees the request as it is.
func TestEveryMemberGetsTheRequestUnchanged(t *testing.T) {
	t.Parallel()
	var first, second backendtest.Fake
	first.CheckFunc, second.CheckFunc = denying("x", ""), denying("y", "")
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
		"a yes and a no": {allowing(), denying("x", "")},
		"two no":         {denying("x", ""), denying("y", "")},
		"two failures":   {failing(backends.FailureTransport), failing(backends.FailureStatus)},
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
