package chain

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

// namedOpening returns an opening check of the viewer with that number, whose query decides what the backend answers.
func namedOpening(viewer int, query string) *backends.Request {
	r := openingFrom(viewer)
	r.Session[0], r.Query = byte(viewer), query
	return r
}

// portal answers by the query, after a second for "slow".
func portal(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	switch r.Query {
	case "404":
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 404, MayBeDenial: true}
	case "404-set":
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 404}
	case "500":
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 500}
	case "403":
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
	case "local":
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal}, nil
	case "slow":
		time.Sleep(10 * time.Second)
	case "slow-404":
		time.Sleep(time.Second)
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 404, MayBeDenial: true}
	}
	return allow(ctx, r)
}

// TestNotFound_DeniesWhereOthersAreAnswered plays a viewer who gets 404, and what others get before their next try.
func TestNotFound_DeniesWhereOthersAreAnswered(t *testing.T) {
	t.Parallel()
	asked := func(viewer int, query string) func(*notFound, context.Context) {
		return func(n *notFound, ctx context.Context) { _, _ = n.Check(ctx, namedOpening(viewer, query)) }
	}
	pause := func(d time.Duration) func(*notFound, context.Context) {
		return func(*notFound, context.Context) { time.Sleep(d) }
	}
	tests := map[string]struct {
		before, between []func(*notFound, context.Context)
		first, retry    *backends.Request
		want            backends.Verdict // of the retry; Pending: a failure
	}{
		"another is allowed":                  {nil, []func(*notFound, context.Context){asked(2, "200")}, namedOpening(1, "404"), nil, backends.Denied},
		"another is denied":                   {nil, []func(*notFound, context.Context){asked(2, "403")}, namedOpening(1, "404"), nil, backends.Denied},
		"another was allowed before":          {[]func(*notFound, context.Context){asked(2, "200")}, nil, namedOpening(1, "404"), nil, backends.Pending},
		"others get 404 too":                  {nil, []func(*notFound, context.Context){asked(2, "404"), asked(3, "404")}, namedOpening(1, "404"), nil, backends.Pending},
		"others get 500":                      {nil, []func(*notFound, context.Context){asked(2, "500")}, namedOpening(1, "404"), nil, backends.Pending},
		"another is decided here":             {nil, []func(*notFound, context.Context){asked(2, "local")}, namedOpening(1, "404"), nil, backends.Pending},
		"nobody else asks":                    {nil, nil, namedOpening(1, "404"), nil, backends.Pending},
		"their own session is answered":       {nil, []func(*notFound, context.Context){asked(1, "200")}, namedOpening(1, "404"), nil, backends.Pending},
		"another's check was sent before":     {[]func(*notFound, context.Context){func(n *notFound, ctx context.Context) { go asked(2, "slow")(n, ctx); synctest.Wait() }}, []func(*notFound, context.Context){pause(10 * time.Second)}, namedOpening(1, "404"), nil, backends.Pending},
		"an old answer, and they come again":  {nil, []func(*notFound, context.Context){asked(2, "200"), pause(2 * notFoundMemory)}, namedOpening(1, "404"), nil, backends.Pending},
		"the retry is a re-check":             {nil, []func(*notFound, context.Context){asked(2, "200")}, namedOpening(1, "404"), withQuery(recheckFrom(1), "404"), backends.Pending},
		"404 is a failure by the settings":    {nil, []func(*notFound, context.Context){asked(2, "200")}, namedOpening(1, "404-set"), nil, backends.Pending},
		"they may have been admitted already": {nil, []func(*notFound, context.Context){asked(2, "200")}, namedOpening(1, "slow-404"), nil, backends.Pending},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNotFound(time.Second, backends.BackendFunc(portal))
				for _, do := range tt.before {
					do(n, t.Context())
				}
				time.Sleep(time.Millisecond)
				if d, err := n.Check(t.Context(), tt.first); err == nil {
					t.Fatalf("got %s for the first 404, want a failure", d.Verdict)
				}
				time.Sleep(time.Millisecond)
				for _, do := range tt.between {
					do(n, t.Context())
				}
				retry := tt.retry
				if retry == nil {
					retry = tt.first
				}
				d, err := n.Check(t.Context(), retry)
				if d.Verdict != tt.want || (err != nil) != (tt.want == backends.Pending) {
					t.Errorf("got %s and error %v for the retry, want %s", d.Verdict, err, tt.want)
				}
				if err == nil && (d.Source != backends.FromBackend || d.Reason != notFoundReason) {
					t.Errorf("got %+v, want the backend's denial with its reason", d)
				}
			})
		})
	}
}

func withQuery(r *backends.Request, query string) *backends.Request {
	r.Query = query
	return r
}

// TestNotFound_OneWrongPathLeavesBreakerClosed repeats a 404 in the whole chain, alone and among others.
func TestNotFound_OneWrongPathLeavesBreakerClosed(t *testing.T) {
	t.Parallel()
	for _, others := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := New("b", DefaultConfig(), backends.BackendFunc(portal), Deps{})
			for range 100 {
				d, err := c.Check(t.Context(), namedOpening(1, "404"))
				if d.Verdict == backends.Allowed {
					t.Fatalf("others=%t: admitted %+v", others, d)
				}
				if !others && err == nil {
					t.Fatalf("got %+v, want a failure where nobody else asks", d)
				}
				time.Sleep(time.Second)
				if others {
					_, _ = c.Check(t.Context(), namedOpening(2, "200"))
				}
			}
			if c.IsDown() {
				t.Error("one viewer's wrong path opened the breaker")
			}
		})
	}
}

func TestNotFound_MemoryIsBounded(t *testing.T) {
	t.Parallel()
	n := newNotFound(time.Second, nil)
	now := time.Now()
	key := func(i int) (k openingKey) {
		k.session[0], k.session[1], k.session[2] = byte(i), byte(i>>8), byte(i>>16)
		return k
	}
	for i := range 3 * maxRemembered {
		n.isOwn(key(i), now, now)
	}
	if len(n.openings) > maxRemembered {
		t.Errorf("got %d remembered, want at most %d", len(n.openings), maxRemembered)
	}
	later := now.Add(2 * notFoundMemory)
	n.isOwn(key(-1), later, later)
	if len(n.openings) != 1 {
		t.Errorf("got %d remembered after a while, want the newest only", len(n.openings))
	}
}
