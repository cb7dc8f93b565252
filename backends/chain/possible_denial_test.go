package chain

import (
	"context"
	"strings"
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
	case "401":
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 401, MayBeDenial: true}
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

// TestPossibleDenial_DeniesWhereOthersAreAnswered plays a viewer who gets 404, and what others get before their next try.
func TestPossibleDenial_DeniesWhereOthersAreAnswered(t *testing.T) {
	t.Parallel()
	asked := func(viewer int, query string) func(*possibleDenial, context.Context) {
		return func(n *possibleDenial, ctx context.Context) { _, _ = n.Check(ctx, namedOpening(viewer, query)) }
	}
	pause := func(d time.Duration) func(*possibleDenial, context.Context) {
		return func(*possibleDenial, context.Context) { time.Sleep(d) }
	}
	tests := map[string]struct {
		before, between []func(*possibleDenial, context.Context)
		first, retry    *backends.Request
		want            backends.Verdict // of the retry; Pending: a failure
	}{
		"another is allowed":                  {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, namedOpening(1, "404"), nil, backends.Denied},
		"another is denied":                   {nil, []func(*possibleDenial, context.Context){asked(2, "403")}, namedOpening(1, "404"), nil, backends.Denied},
		"another was allowed before":          {[]func(*possibleDenial, context.Context){asked(2, "200")}, nil, namedOpening(1, "404"), nil, backends.Pending},
		"others get 404 too":                  {nil, []func(*possibleDenial, context.Context){asked(2, "404"), asked(3, "404")}, namedOpening(1, "404"), nil, backends.Pending},
		"others get 500":                      {nil, []func(*possibleDenial, context.Context){asked(2, "500")}, namedOpening(1, "404"), nil, backends.Pending},
		"another is decided here":             {nil, []func(*possibleDenial, context.Context){asked(2, "local")}, namedOpening(1, "404"), nil, backends.Pending},
		"nobody else asks":                    {nil, nil, namedOpening(1, "404"), nil, backends.Pending},
		"their own session is answered":       {nil, []func(*possibleDenial, context.Context){asked(1, "200")}, namedOpening(1, "404"), nil, backends.Pending},
		"another's check was sent before":     {[]func(*possibleDenial, context.Context){func(n *possibleDenial, ctx context.Context) { go asked(2, "slow")(n, ctx); synctest.Wait() }}, []func(*possibleDenial, context.Context){pause(10 * time.Second)}, namedOpening(1, "404"), nil, backends.Pending},
		"an old answer, and they come again":  {nil, []func(*possibleDenial, context.Context){asked(2, "200"), pause(2 * possibleDenialMemory)}, namedOpening(1, "404"), nil, backends.Pending},
		"the retry is a re-check":             {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, namedOpening(1, "404"), withQuery(recheckFrom(1), "404"), backends.Pending},
		"404 is a failure by the settings":    {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, namedOpening(1, "404-set"), nil, backends.Pending},
		"a 401 that may refuse Usher itself":  {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, namedOpening(1, "401"), nil, backends.Denied},
		"it, and another is denied":           {nil, []func(*possibleDenial, context.Context){asked(2, "403")}, namedOpening(1, "401"), nil, backends.Pending},
		"a running session's 401":             {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, namedOpening(1, "401"), withQuery(recheckFrom(1), "401"), backends.Pending},
		"a 404 to who was let in meanwhile":   {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, withSource(recheckFrom(1), "404", backends.FromFailOpen), nil, backends.Denied},
		"after recheck.min of some minutes":   {nil, []func(*possibleDenial, context.Context){asked(2, "200"), pause(10 * time.Minute)}, withSource(recheckFrom(1), "404", backends.FromFailOpen), nil, backends.Denied},
		"a slow one to them":                  {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, withSource(recheckFrom(1), "slow-404", backends.FromFailOpen), nil, backends.Denied},
		"a 401 to them":                       {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, withSource(recheckFrom(1), "401", backends.FromFailOpen), nil, backends.Denied},
		"it, and nobody is allowed":           {nil, []func(*possibleDenial, context.Context){asked(2, "403")}, withSource(recheckFrom(1), "401", backends.FromFailOpen), nil, backends.Pending},
		"one to who was allowed before":       {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, withSource(recheckFrom(1), "401", backends.FromCached), nil, backends.Pending},
		"one to who has a ticket alone":       {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, withSource(recheckFrom(1), "404", backends.FromTicket), nil, backends.Pending},
		"others get 401 too":                  {nil, []func(*possibleDenial, context.Context){asked(2, "401")}, namedOpening(1, "401"), nil, backends.Pending},
		"they may have been admitted already": {nil, []func(*possibleDenial, context.Context){asked(2, "200")}, namedOpening(1, "slow-404"), nil, backends.Pending},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newPossibleDenial(time.Second, backends.BackendFunc(portal))
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
				if err == nil && (d.Source != backends.FromBackend || d.Reason != "backend answered "+strings.TrimPrefix(tt.first.Query, "slow-")+" while other viewers get answers") {
					t.Errorf("got %+v, want the backend's denial with its reason", d)
				}
			})
		})
	}
}

func withSource(r *backends.Request, query string, source backends.Source) *backends.Request {
	r.Current.Source = source
	return withQuery(r, query)
}

func withQuery(r *backends.Request, query string) *backends.Request {
	r.Query = query
	return r
}

// TestPossibleDenial_OfOneViewerLeavesBreakerClosed repeats a 404 in the whole chain, alone and among others.
func TestPossibleDenial_OfOneViewerLeavesBreakerClosed(t *testing.T) {
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

func TestPossibleDenial_MemoryIsBounded(t *testing.T) {
	t.Parallel()
	n := newPossibleDenial(time.Second, nil)
	now := time.Now()
	opening := func(i int) *backends.Request {
		return &backends.Request{Session: backends.SessionID{byte(i), byte(i >> 8), byte(i >> 16)}}
	}
	for i := range 3 * maxPossibleDenials {
		n.isOwn(opening(i), 404, now, now)
	}
	if len(n.openings) > maxPossibleDenials {
		t.Errorf("got %d remembered, want at most %d", len(n.openings), maxPossibleDenials)
	}
	later := now.Add(2 * possibleDenialMemory)
	n.isOwn(opening(-1), 404, later, later)
	if len(n.openings) != 1 {
		t.Errorf("got %d remembered after a while, want the newest only", len(n.openings))
	}
}

// TestPossibleDenial_IsOwn_FullMemory has more viewers than are remembered turn out to be unknown after an outage that let them in, and
// strangers beside them. Those who were denied make room for the others, and strangers for viewers.
func TestPossibleDenial_IsOwn_FullMemory(t *testing.T) {
	t.Parallel()
	n, now := newPossibleDenial(time.Second, nil), time.Now()
	of := func(i int, isRecheck bool) *backends.Request {
		return &backends.Request{Session: backends.SessionID{byte(i), byte(i >> 8), byte(i >> 16)}, IsRecheck: isRecheck}
	}
	for i := range maxPossibleDenials {
		n.isOwn(of(i, false), 404, now, now) // strangers
	}
	const viewers = 3 * maxPossibleDenials
	var denied int
	isDenied := make([]bool, viewers)
	for round := range 3 {
		for i := range viewers {
			if !isDenied[i] {
				isDenied[i] = n.isOwn(of(maxPossibleDenials+i, true), 404, now, now)
			}
			if isDenied[i] {
				denied++
			}
		}
		now = now.Add(10 * time.Minute)
		n.recordAnswer(of(-1, false), backends.Denied, now)
		now = now.Add(time.Second)
		if least := round * maxPossibleDenials * 9 / 10; denied < least {
			t.Errorf("round %d: %d denied, want about %d", round, denied, round*maxPossibleDenials)
		}
		denied = 0
	}
	if len(n.openings) > maxPossibleDenials {
		t.Errorf("%d are remembered, want at most %d", len(n.openings), maxPossibleDenials)
	}
}

// TestPossibleDenial_IsOwn_ForgetsAtTheEndOfItsMemory has a session's second 404 come as its first one is forgotten.
func TestPossibleDenial_IsOwn_ForgetsAtTheEndOfItsMemory(t *testing.T) {
	t.Parallel()
	by, other := &backends.Request{Session: backends.SessionID{1}}, &backends.Request{Session: backends.SessionID{2}}
	for after, want := range map[time.Duration]bool{possibleDenialMemory - 1: true, possibleDenialMemory: false} {
		n, now := newPossibleDenial(time.Second, nil), time.Now()
		n.isOwn(by, 404, now, now)
		n.recordAnswer(other, backends.Denied, now.Add(1))
		if got := n.isOwn(by, 404, now.Add(after), now.Add(after)); got != want {
			t.Errorf("%s after the first 404 it concerns its session alone: %t, want %t", after, got, want)
		}
	}
}

// TestPossibleDenial_IsOwn_ComparesWithTheFirstSent has a session's 404s arrive in another order than they were asked for, and an
// answer to it between them.
func TestPossibleDenial_IsOwn_ComparesWithTheFirstSent(t *testing.T) {
	t.Parallel()
	by, other := &backends.Request{Session: backends.SessionID{1}}, &backends.Request{Session: backends.SessionID{2}}
	n, start := newPossibleDenial(time.Hour, nil), time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	n.recordAnswer(other, backends.Denied, at(4))
	if n.isOwn(by, 404, at(5), at(6)) {
		t.Error("a 404 of a check sent after all answers concerns its session alone")
	}
	if !n.isOwn(by, 404, at(3), at(7)) {
		t.Error("a 404 of a check sent before another's answer does not concern its session alone")
	}
	n.recordAnswer(by, backends.Denied, at(8)) // and forgets what was before
	if n.isOwn(by, 404, at(9), at(10)) {
		t.Error("the first 404 after an answer concerns its session alone, by another's answer of before")
	}
}

// TestPossibleDenial_Remember_SearchesAFullMemoryOncePerInterval has every entry expire before the memory may be searched again.
func TestPossibleDenial_Remember_SearchesAFullMemoryOncePerInterval(t *testing.T) {
	t.Parallel()
	n, now := newPossibleDenial(time.Second, nil), time.Now()
	for i := range maxPossibleDenials {
		n.openings[openingKey{session: backends.SessionID{byte(i), byte(i >> 8)}}] = &firstPossibleDenial{forgetAt: now}
	}
	n.sweptAt = now.Add(-sweepInterval + 1)
	by := openingKey{session: backends.SessionID{15: 1}}
	n.remember(by, &firstPossibleDenial{forgetAt: now.Add(time.Second)}, false, now)
	if len(n.openings) != maxPossibleDenials || n.openings[by] != nil {
		t.Errorf("got %d remembered before sweepInterval, want the old %d", len(n.openings), maxPossibleDenials)
	}
	n.sweptAt = now.Add(-sweepInterval)
	n.remember(by, &firstPossibleDenial{forgetAt: now.Add(time.Second)}, false, now)
	if len(n.openings) != 1 || n.openings[by] == nil {
		t.Errorf("got %d remembered after sweepInterval, want the newest only", len(n.openings))
	}
	if !n.sweptAt.Equal(now) {
		t.Errorf("searched last at %s, want %s", n.sweptAt, now)
	}
}

// TestPossibleDenial_RecordAnswer_KeepsTheLatestOfTwoSessions records answers in the order in which they arrive, not in which
// they were asked for.
func TestPossibleDenial_RecordAnswer_KeepsTheLatestOfTwoSessions(t *testing.T) {
	t.Parallel()
	type answer struct{ session, sentAt int }
	for name, test := range map[string]struct {
		answers []answer
		want    [2]answer
	}{
		"one":                           {[]answer{{1, 1}}, [2]answer{{1, 1}}},
		"one again":                     {[]answer{{1, 1}, {1, 2}}, [2]answer{{1, 2}}},
		"one again, sent before":        {[]answer{{1, 2}, {1, 1}}, [2]answer{{1, 2}}},
		"two":                           {[]answer{{1, 1}, {2, 2}}, [2]answer{{2, 2}, {1, 1}}},
		"two, the second sent before":   {[]answer{{1, 2}, {2, 1}}, [2]answer{{1, 2}, {2, 1}}},
		"three":                         {[]answer{{1, 1}, {2, 2}, {3, 3}}, [2]answer{{3, 3}, {2, 2}}},
		"three, the third sent between": {[]answer{{1, 1}, {2, 3}, {3, 2}}, [2]answer{{2, 3}, {3, 2}}},
		"three, the third sent before":  {[]answer{{1, 2}, {2, 3}, {3, 1}}, [2]answer{{2, 3}, {1, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, start := newPossibleDenial(time.Second, nil), time.Now()
			check := func(a answer) sentCheck {
				return sentCheck{openingKey{session: backends.SessionID{byte(a.session)}}, start.Add(time.Duration(a.sentAt))}
			}
			for _, a := range test.answers {
				n.recordAnswer(&backends.Request{Session: check(a).by.session}, backends.Denied, check(a).at)
			}
			for i, want := range test.want {
				if got := n.answered[i]; want.session > 0 && got != check(want) || want.session == 0 && !got.at.IsZero() {
					t.Errorf("answer %d: got %+v, want %+v", i, got, want)
				}
			}
		})
	}
}
