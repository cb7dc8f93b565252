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

func TestBackend_Contract(t *testing.T) {
	backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
		cfg := httpbackend.DefaultConfig()
		cfg.Address = s.URL() + "/check"
		client, err := httpbackend.NewClient("portal", cfg, httpbackend.Deps{})
		if err != nil {
			t.Fatalf("make the member: %v", err)
		}
		return closableBackend{newBackend(t, `rules: [{ backend: portal }]`, backends.BackendFunc(
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

// newBackend uses the adapters as the config's members, in the order of their mention, with a validity of a minute.
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

func decidingBackend(d backends.Decision) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return d, nil }
}

func failingBackend(err error) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return backends.Decision{}, err }
}

func failingWith(kind backends.FailureKind) backends.BackendFunc {
	return failingBackend(&backends.Failure{Kind: kind, Backend: kind.String()})
}

func allowingBackend() backends.BackendFunc {
	return decidingBackend(backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200", UserID: "u1", MaxSessions: 2,
	})
}

func denyingBackend() backends.BackendFunc {
	return decidingBackend(backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: "backend answered 403",
		Redirect: "http://promo.example.net/",
	})
}

// challengingBackend asks for credentials.
func challengingBackend(v backends.Verdict, challenge string) backends.BackendFunc {
	return decidingBackend(backends.Decision{Verdict: v, Challenge: challenge})
}

// challenged returns the decision with a challenge.
func challenged(d backends.Decision, challenge string) backends.Decision {
	d.Challenge = challenge
	return d
}

func pendingBackend() backends.BackendFunc { return decidingBackend(backends.Decision{}) }

// unexpectedBackend fails the test.
func unexpectedBackend(t *testing.T) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		t.Error("a backend was called that should not be")
		return backends.Decision{}, nil
	}
}

func overloadError() error { return backends.NewOverload("backends.a.max_in_flight", 256) }

func TestCheck_MemberResults(t *testing.T) {
	t.Parallel()
	decided := func(v backends.Verdict, s backends.Source, reason string) backends.Decision {
		return backends.Decision{Verdict: v, Source: s, Reason: reason}
	}
	allowed := func(name string) backends.Decision {
		return backends.Decision{
			Verdict: backends.Allowed, Source: backends.FromBackend, Reason: name + ": backend answered 200",
			UserID: "u1", MaxSessions: 2, ValidFor: time.Minute,
		}
	}
	denied := backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: "a: backend answered 403",
		Redirect: "http://promo.example.net/",
	}
	deniedByB := denied
	deniedByB.Reason = "b: backend answered 403"
	byDefault := decided(backends.Denied, backends.FromLocal, "default: deny")
	none := backends.Decision{}
	transport, status := failingWith(backends.FailureTransport), failingWith(backends.FailureStatus)
	const network, code = `check backend "transport": transport`, `check backend "status": status 0`
	const busy = "overloaded: backends.a.max_in_flight=256 reached"
	tests := map[string]struct {
		config   string
		adapters []backends.Backend
		want     backends.Decision
		err      string
	}{
		"allowed":                                         {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{allowingBackend(), unexpectedBackend(t)}, allowed("a"), ""},
		"denied, with its redirect":                       {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{denyingBackend(), unexpectedBackend(t)}, denied, ""},
		"no opinion continues":                            {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{pendingBackend(), allowingBackend()}, allowed("b"), ""},
		"allowed that passes":                             {`rules: [{ backend: a, on_allow: pass }, { backend: b }]`, []backends.Backend{allowingBackend(), allowingBackend()}, allowed("b"), ""},
		"allowed that passes to the default":              {`rules: [{ backend: a, on_allow: pass }]`, []backends.Backend{allowingBackend()}, byDefault, ""},
		"denied that passes":                              {`rules: [{ backend: a, on_deny: pass }, { backend: b }]`, []backends.Backend{denyingBackend(), allowingBackend()}, allowed("b"), ""},
		"no opinion ignores on_allow and on_deny":         {`rules: [{ backend: a, on_allow: allow, on_deny: deny }, { action: deny }]`, []backends.Backend{pendingBackend()}, decided(backends.Denied, backends.FromLocal, "rules[1]: deny"), ""},
		"a failure fails the check":                       {`{ rules: [{ backend: a }, { backend: b }], default: allow }`, []backends.Backend{transport, unexpectedBackend(t)}, none, network},
		"a status fails the check":                        {`{ rules: [{ backend: a }], default: allow }`, []backends.Backend{status}, none, code},
		"a failure that denies":                           {`{ rules: [{ backend: a, on_failure: deny }], default: allow }`, []backends.Backend{status}, decided(backends.Denied, backends.FromFailOpen, "rules[0].on_failure=deny; a did not answer: status"), ""},
		"a failure that passes to another member":         {`rules: [{ backend: a, on_failure: pass }, { backend: b }]`, []backends.Backend{transport, allowingBackend()}, allowed("b"), ""},
		"a timeout that passes":                           {`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, []backends.Backend{failingWith(backends.FailureTimeout)}, decided(backends.Allowed, backends.FromFailOpen, "default: allow; a did not answer"), ""},
		"an open breaker that passes":                     {`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, []backends.Backend{failingWith(backends.FailureBreakerOpen)}, decided(backends.Allowed, backends.FromFailOpen, "default: allow; a did not answer"), ""},
		"a status never passes":                           {`{ rules: [{ backend: a, on_failure: pass }, { backend: b }], default: allow }`, []backends.Backend{status, unexpectedBackend(t)}, none, code},
		"a malformed response never passes":               {`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, []backends.Backend{failingWith(backends.FailureMalformed)}, none, `check backend "malformed": malformed`},
		"an overload never passes":                        {`{ rules: [{ backend: a, on_failure: pass }, { backend: b }], default: allow }`, []backends.Backend{failingBackend(overloadError()), unexpectedBackend(t)}, none, busy},
		"an overload does not deny":                       {`rules: [{ backend: a, on_failure: deny }]`, []backends.Backend{failingBackend(overloadError())}, none, busy},
		"after a failure a rule's denial is a fallback":   {`rules: [{ backend: a, on_failure: pass }, { addresses: [192.0.2.7], action: deny }]`, []backends.Backend{transport}, decided(backends.Denied, backends.FromFailOpen, "rules[1]: deny; a did not answer"), ""},
		"no opinion by default":                           {`{ rules: [{ backend: a }], default: pass }`, []backends.Backend{pendingBackend()}, decided(backends.Pending, backends.FromLocal, "default: pass"), ""},
		"named by two rules":                              {`rules: [{ channels: [b*], backend: a }, { channels: [a*], backend: a }]`, []backends.Backend{allowingBackend()}, allowed("a"), ""},
		"a challenge":                                     {`rules: [{ backend: a }]`, []backends.Backend{challengingBackend(backends.Denied, "A")}, challenged(decided(backends.Denied, backends.SourceNone, "a: denied"), "A"), ""},
		"a challenge that passes to the default":          {`rules: [{ backend: a, on_deny: pass }, { backend: b }]`, []backends.Backend{challengingBackend(backends.Denied, "A"), challengingBackend(backends.Pending, "B")}, challenged(byDefault, "A"), ""},
		"a challenge that passes to a denial":             {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{challengingBackend(backends.Pending, "A"), denyingBackend()}, challenged(deniedByB, "A"), ""},
		"a challenge that passes to another's":            {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{challengingBackend(backends.Pending, "A"), challengingBackend(backends.Denied, "B")}, challenged(decided(backends.Denied, backends.SourceNone, "b: denied"), "B"), ""},
		"a challenge that passes to a yes":                {`rules: [{ backend: a }, { backend: b }]`, []backends.Backend{challengingBackend(backends.Pending, "A"), allowingBackend()}, allowed("b"), ""},
		"a challenge that passes to a rule's denial":      {`rules: [{ backend: a }, { addresses: [192.0.2.7], action: deny }]`, []backends.Backend{challengingBackend(backends.Pending, "A")}, decided(backends.Denied, backends.FromLocal, "rules[1]: deny"), ""},
		"an error of no kind":                             {`rules: [{ backend: a, on_failure: pass }]`, []backends.Backend{failingBackend(errors.New("odd"))}, none, `check backend "a": malformed: odd`},
		"a deadline of the member's own":                  {`rules: [{ backend: a }]`, []backends.Backend{failingBackend(context.DeadlineExceeded)}, none, `check backend "a": timeout: context deadline exceeded`},
		"a member that cancels itself":                    {`rules: [{ backend: a }]`, []backends.Backend{failingBackend(context.Canceled)}, none, `check backend "a": malformed: canceled by the backend itself`},
		"allowed without a reason":                        {`rules: [{ backend: a }]`, []backends.Backend{decidingBackend(backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, ValidFor: time.Hour})}, backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "a: allowed", ValidFor: time.Hour}, ""},
		"a fallback gets no validity":                     {`rules: [{ backend: a }]`, []backends.Backend{decidingBackend(decided(backends.Allowed, backends.FromFailOpen, "x"))}, decided(backends.Allowed, backends.FromFailOpen, "a: x"), ""},
		"an earlier rule saves the call":                  {`rules: [{ addresses: [192.0.2.7], action: allow }, { backend: a }]`, []backends.Backend{unexpectedBackend(t)}, decided(backends.Allowed, backends.FromLocal, "rules[0]: allow"), ""},
		"a rule that passes, and one that does not match": {`rules: [{ action: pass }, { channels: [x], action: allow }, { backend: a }]`, []backends.Backend{allowingBackend()}, allowed("a"), ""},
		"a condition prevents the call":                   {`rules: [{ channels: [x], backend: a }]`, []backends.Backend{unexpectedBackend(t)}, byDefault, ""},
		"two members that pass":                           {`rules: [{ backend: a, on_allow: pass }, { backend: b, on_allow: pass }]`, []backends.Backend{allowingBackend(), allowingBackend()}, byDefault, ""},
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

func TestCheck_ViewerLeaves_NoFailure(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{context.Canceled, &backends.Failure{Kind: backends.FailureTransport}} {
		ctx, leave := context.WithCancel(t.Context())
		b := newBackend(t, `{ rules: [{ backend: a, on_failure: pass }], default: allow }`, backends.BackendFunc(
			func(context.Context, *backends.Request) (backends.Decision, error) {
				leave()
				return backends.Decision{}, failure
			}))
		_, err := b.Check(ctx, backendtest.NewRequest("123"))
		if errorText(err) != `check backend "a": context canceled` || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v when the member returned %v, want context.Canceled", err, failure)
		}
	}
}

// A re-check runs the whole list again, and the member gets the request unchanged.
func TestCheck_MemberGetsUnchangedRequest(t *testing.T) {
	t.Parallel()
	var first, second backendtest.Fake
	first.CheckFunc, second.CheckFunc = pendingBackend(), denyingBackend()
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

func TestCheck_LocalRule_NoAllocation(t *testing.T) {
	b := newBackend(t, localRules)
	r := backendtest.NewRequest("123")
	r.Referer = "https://tv.example.com/"
	if d, err := b.Check(t.Context(), r); err != nil || d.Reason != "rules[6]: deny" {
		t.Fatalf("got %q, error %v; want the last rule's decision", d.Reason, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Check(t.Context(), r) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// localRules tests every condition.
const localRules = `
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
		"local-rules":   newBackend(b, localRules),
		"first-member":  newBackend(b, `rules: [{ backend: a }]`, allowingBackend()),
		"second-member": newBackend(b, `rules: [{ backend: a }, { backend: b }]`, pendingBackend(), allowingBackend()),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = backend.Check(b.Context(), r)
			}
		})
	}
}
