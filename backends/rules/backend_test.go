package rules

import (
	"context"
	"errors"
	"testing"
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
		return closing{newBackend(t, `rules: [{ backend: portal }]`, backends.BackendFunc(
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

// newBackend gives the config's members those adapters, in the order of their mention, with a validity of a minute.
func newBackend(t testing.TB, config string, adapters ...backends.Backend) *Backend {
	t.Helper()
	cfg := readConfig(t, config)
	var members []backends.Member
	for i, name := range Members(cfg) {
		members = append(members, backends.Member{Name: name, Backend: adapters[i], Validity: time.Minute})
	}
	b, err := New("gate", cfg, members)
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

func yes() backends.BackendFunc {
	return says(backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200", UserID: "u1", MaxSessions: 2,
	})
}

func no() backends.BackendFunc {
	return says(backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: "backend answered 403",
		Redirect: "http://promo.example.net/",
	})
}

func unsure() backends.BackendFunc { return says(backends.Decision{}) }

// unasked fails the test.
func unasked(t *testing.T) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		t.Error("a backend was asked that should not be")
		return backends.Decision{}, nil
	}
}

func overload() error { return backends.NewOverload("backends.a.max_in_flight", 256) }

func TestWhatFollowsFromAnAnswer(t *testing.T) {
	t.Parallel()
	ruled := func(v backends.Verdict, s backends.Source, reason string) backends.Decision {
		return backends.Decision{Verdict: v, Source: s, Reason: reason}
	}
	of := func(name string) backends.Decision {
		return backends.Decision{
			Verdict: backends.Allowed, Source: backends.FromBackend, Reason: name + ": backend answered 200",
			UserID: "u1", MaxSessions: 2, ValidFor: time.Minute,
		}
	}
	denied := backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: "a: backend answered 403",
		Redirect: "http://promo.example.net/",
	}
	byDefault := ruled(backends.Denied, backends.FromLocal, "default: deny")
	nobody := backends.Decision{}
	transport, status := failing(backends.FailureTransport), failing(backends.FailureStatus)
	const network, code = `ask backend "transport": transport`, `ask backend "status": status 0`
	const busy = "overloaded: backends.a.max_in_flight=256 reached"
	tests := map[string]struct {
		config   string
		adapters []backends.Backend
		want     backends.Decision
		err      string
	}{
		"a yes lets in":                              {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{yes(), unasked(t)}, of("a"), ""},
		"a no denies, with its redirect":             {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{no(), unasked(t)}, denied, ""},
		"no opinion goes on":                         {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{unsure(), yes()}, of("b"), ""},
		"a yes that passes":                          {`rules: [{ backend: a, on_allow: pass }, { backend: b }]`, []backends.Backend{yes(), yes()}, of("b"), ""},
		"a yes that passes to the default":           {`rules: [{ backend: a, on_allow: pass }]`, []backends.Backend{yes()}, byDefault, ""},
		"a no that passes":                           {`rules: [{ backend: a, on_deny: pass }, { backend: b }]`, []backends.Backend{no(), yes()}, of("b"), ""},
		"no opinion does not heed on_allow, on_deny": {`rules: [{ backend: a, on_allow: allow, on_deny: deny }, { action: deny }]`, []backends.Backend{unsure()}, ruled(backends.Denied, backends.FromLocal, "rules[1]: deny"), ""},
		"a failure is the check's":                   {`{ rules: [{ backend: a }, { backend: b }], default: allow }`, []backends.Backend{transport, unasked(t)}, nobody, network},
		"a status is the check's":                    {`{ rules: [{ backend: a }], default: allow }`, []backends.Backend{status}, nobody, code},
		"a failure that denies":                      {`{ rules: [{ backend: a, on_failure: deny }], default: allow }`, []backends.Backend{status}, ruled(backends.Denied, backends.FromFailOpen, "rules[0].on_failure=deny; a did not answer: status"), ""},
		"a failure that passes to another's yes":     {`rules: [{ backend: a, on_failure: pass }, { backend: b }]`, []backends.Backend{transport, yes()}, of("b"), ""},
		"a timeout that passes":                      {`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, []backends.Backend{failing(backends.FailureTimeout)}, ruled(backends.Allowed, backends.FromFailOpen, "default: allow; a did not answer"), ""},
		"an open breaker that passes":                {`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, []backends.Backend{failing(backends.FailureBreakerOpen)}, ruled(backends.Allowed, backends.FromFailOpen, "default: allow; a did not answer"), ""},
		"a status never passes":                      {`{ rules: [{ backend: a, on_failure: pass }, { backend: b }], default: allow }`, []backends.Backend{status, unasked(t)}, nobody, code},
		"a malformed answer never passes":            {`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, []backends.Backend{failing(backends.FailureMalformed)}, nobody, `ask backend "malformed": malformed`},
		"an overload never passes":                   {`{ rules: [{ backend: a, on_failure: pass }, { backend: b }], default: allow }`, []backends.Backend{fails(overload()), unasked(t)}, nobody, busy},
		"an overload does not deny":                  {`rules: [{ backend: a, on_failure: deny }]`, []backends.Backend{fails(overload())}, nobody, busy},
		"after a failure a rule's no is a stop":      {`rules: [{ backend: a, on_failure: pass }, { addresses: [192.0.2.7], action: deny }]`, []backends.Backend{transport}, ruled(backends.Denied, backends.FromFailOpen, "rules[1]: deny; a did not answer"), ""},
		"no opinion by default":                      {`{ rules: [{ backend: a }], default: pass }`, []backends.Backend{unsure()}, ruled(backends.Pending, backends.FromLocal, "default: pass"), ""},
		"asked twice":                                {`rules: [{ channels: [b*], backend: a }, { channels: [a*], backend: a }]`, []backends.Backend{yes()}, of("a"), ""},
		"an error of no kind":                        {`rules: [{ backend: a, on_failure: pass }]`, []backends.Backend{fails(errors.New("odd"))}, nobody, `ask backend "a": malformed: odd`},
		"a deadline of the member's own":             {`rules: [{ backend: a }]`, []backends.Backend{fails(context.DeadlineExceeded)}, nobody, `ask backend "a": timeout: context deadline exceeded`},
		"one that gave up by itself":                 {`rules: [{ backend: a }]`, []backends.Backend{fails(context.Canceled)}, nobody, `ask backend "a": malformed: gave up by itself`},
		"a yes without a reason":                     {`rules: [{ backend: a }]`, []backends.Backend{says(backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, ValidFor: time.Hour})}, backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "a: allowed", ValidFor: time.Hour}, ""},
		"a stopgap's yes gets no validity":           {`rules: [{ backend: a }]`, []backends.Backend{says(ruled(backends.Allowed, backends.FromFailOpen, "x"))}, ruled(backends.Allowed, backends.FromFailOpen, "a: x"), ""},
		"a rule before spares the question":          {`rules: [{ addresses: [192.0.2.7], action: allow }, { backend: a }]`, []backends.Backend{unasked(t)}, ruled(backends.Allowed, backends.FromLocal, "rules[0]: allow"), ""},
		"a rule that passes, and one not met":        {`rules: [{ action: pass }, { channels: [x], action: allow }, { backend: a }]`, []backends.Backend{yes()}, of("a"), ""},
		"a condition keeps from asking":              {`rules: [{ channels: [x], backend: a }]`, []backends.Backend{unasked(t)}, byDefault, ""},
		"asking two in a row, and both must say so":  {`rules: [{ backend: a, on_allow: pass }, { backend: b, on_allow: pass }]`, []backends.Backend{yes(), yes()}, byDefault, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := newBackend(t, tt.config, tt.adapters...).Check(t.Context(), backendtest.NewRequest("123"))
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if got := errorText(err); got != tt.err {
				t.Errorf("got error %q, want %q", got, tt.err)
			}
		})
	}
}

func TestAViewerWhoLeavesIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{context.Canceled, &backends.Failure{Kind: backends.FailureTransport}} {
		ctx, leave := context.WithCancel(t.Context())
		b := newBackend(t, `{ rules: [{ backend: a, on_failure: pass }], default: allow }`, backends.BackendFunc(
			func(context.Context, *backends.Request) (backends.Decision, error) {
				leave()
				return backends.Decision{}, failure
			}))
		_, err := b.Check(ctx, backendtest.NewRequest("123"))
		if errorText(err) != `ask backend "a": context canceled` || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v when the member said %v, want context.Canceled", err, failure)
		}
	}
}

// A re-check goes through the whole list again, and who is asked sees the request as it is.
func TestABackendThatIsAskedGetsTheRequestUnchanged(t *testing.T) {
	t.Parallel()
	var first, second backendtest.Fake
	first.CheckFunc, second.CheckFunc = unsure(), no()
	b := newBackend(t, `rules: [{ backend: a }, { backend: b }]`, &first, &second)
	r := backendtest.NewRequest("123")
	r.Number, r.Bytes, r.Headers = 3, 4711, []backends.Header{{Name: "Cookie", Value: "sid=1"}}
	r.Current = backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}
	for range 2 {
		if _, err := b.Check(t.Context(), r); err != nil {
			t.Fatalf("check: %v", err)
		}
	}
	for name, m := range map[string]*backendtest.Fake{"a": &first, "b": &second} {
		if diff := cmp.Diff([]backends.Request{*r, *r}, m.Requests(), cmpopts.EquateComparable(r.Address)); diff != "" {
			t.Errorf("requests of %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestARulesOwnWordAllocatesNothing(t *testing.T) {
	b := newBackend(t, ownWord)
	r := backendtest.NewRequest("123")
	r.Referer = "https://tv.example.com/"
	if d, err := b.Check(t.Context(), r); err != nil || d.Reason != "rules[6]: deny" {
		t.Fatalf("got %q, error %v; want the last rule's word", d.Reason, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Check(t.Context(), r) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// ownWord goes through every condition.
const ownWord = `
rules:
  - { tokens: [456, a-token-that-is-longer-than-thirty-two-bytes], action: allow }
  - { addresses: [10.0.0.0/8, "2001:db8::/32"], action: allow }
  - { channels: ["hd-*"], action: deny }
  - { user_agents: ["*bot*", "curl/*"], action: deny }
  - { hosts: ["*.example.net"], action: deny }
  - { referers: [evil.example], action: deny }
  - { tokens: [123], addresses: [192.0.2.0/24], channels: ["a*"], user_agents: ["vlc*"], hosts: [live.example.com], referers: ["*.example.com"], action: deny }
`

func BenchmarkCheck(b *testing.B) {
	r := backendtest.NewRequest("123")
	r.Referer = "https://tv.example.com/"
	for name, backend := range map[string]*Backend{
		"own-word":       newBackend(b, ownWord),
		"asking":         newBackend(b, `rules: [{ backend: a }]`, yes()),
		"asking-the-2nd": newBackend(b, `rules: [{ backend: a }, { backend: b }]`, unsure(), yes()),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = backend.Check(b.Context(), r)
			}
		})
	}
}
