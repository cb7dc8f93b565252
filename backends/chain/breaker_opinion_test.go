package chain

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

// failSent fails as a backend does that resets the connection after the request was sent.
func failSent(context.Context, *backends.Request) (backends.Decision, error) {
	return backends.Decision{}, &backends.Failure{Kind: backends.FailureTransport, Backend: "b", WasSent: true}
}

// causable returns every failure that a request may have caused.
func causable() map[string]backends.BackendFunc {
	return map[string]backends.BackendFunc{
		"status":    failWith(backends.FailureStatus),
		"malformed": failWith(backends.FailureMalformed),
		"reset":     failSent,
		"hang":      hang,
		"panic":     func(context.Context, *backends.Request) (backends.Decision, error) { panic("boom") },
	}
}

// failFor answers everybody except the given viewer, for whom it fails.
func failFor(viewer int, fail backends.BackendFunc) backends.BackendFunc {
	bad := openingFrom(viewer).Address
	return func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if r.Address == bad && r.Query == "token=evil" {
			return fail(ctx, r)
		}
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
	}
}

// evilRequest is the request of viewer 66 that the backend fails to answer.
func evilRequest() *backends.Request {
	r := openingFrom(66)
	r.Query = "token=evil"
	return r
}

// TestBreaker_OneViewerCannotOpenIt has one viewer cause failures, one after another and many at once, in busy and in
// quiet hours.
func TestBreaker_OneViewerCannotOpenIt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before, between func(b *Breaker, ctx context.Context)
	}{
		"while others get answers": {
			before:  func(b *Breaker, ctx context.Context) { _, _ = b.Check(ctx, openingFrom(1)) },
			between: func(b *Breaker, ctx context.Context) { _, _ = b.Check(ctx, openingFrom(2)) },
		},
		"after another's answer, while nobody else asks": {
			before: func(b *Breaker, ctx context.Context) { _, _ = b.Check(ctx, openingFrom(1)) },
		},
		"long after another's answer": {
			before: func(b *Breaker, ctx context.Context) {
				_, _ = b.Check(ctx, openingFrom(1))
				time.Sleep(time.Hour)
			},
		},
		"after an answer of their own alone": {
			before: func(b *Breaker, ctx context.Context) { _, _ = b.Check(ctx, openingFrom(66)) },
		},
		"after another's answer and one of their own": {
			before: func(b *Breaker, ctx context.Context) {
				_, _ = b.Check(ctx, openingFrom(1))
				_, _ = b.Check(ctx, openingFrom(66))
				time.Sleep(time.Minute)
			},
		},
	}
	for kind, fail := range causable() {
		for name, tt := range tests {
			for _, pace := range []string{"in a row", "at once"} {
				t.Run(kind+"/"+name+"/"+pace, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						b := newTestBreaker(failFor(66, fail))
						tt.before(b, t.Context())
						var group sync.WaitGroup
						for range 100 {
							if pace == "at once" {
								group.Go(func() { _, _ = b.Check(t.Context(), evilRequest()) })
							} else {
								_, _ = b.Check(t.Context(), evilRequest())
							}
							if tt.between != nil {
								tt.between(b, t.Context())
							}
							synctest.Wait()
							if b.IsDown() {
								t.Fatal("one viewer opened the breaker")
							}
						}
						group.Wait()
						synctest.Wait()
						if b.IsDown() {
							t.Error("one viewer opened the breaker")
						}
					})
				})
			}
		}
	}
}

// TestBreaker_OneViewerCannotOpenIt_SpentTokensGet404 has a middleware that answers 404 about tokens that nobody has or had, and long
// after its last answer one viewer who asks with many of them. Soon after an answer a 404 about its token is a failure of all.
func TestBreaker_OneViewerCannotOpenIt_SpentTokensGet404(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		after  time.Duration
		isDown bool
	}{
		"the answered token is spent": {time.Minute, false},
		"it was good a moment ago":    {time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				isSpent := false
				b := newTestBreaker(backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) {
					if !isSpent {
						return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, nil
					}
					return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 404, MayBeDenial: true}
				}))
				_, _ = b.Check(t.Context(), openingFrom(1))
				time.Sleep(tt.after)
				isSpent = true
				for i := range 20 {
					r := evilRequest()
					r.Session[0] = byte(i + 1)
					_, _ = b.Check(t.Context(), r)
					synctest.Wait()
				}
				if b.IsDown() != tt.isDown {
					t.Errorf("the breaker is open: %t, want %t", b.IsDown(), tt.isDown)
				}
			})
		})
	}
}

// TestBreaker_PossibleDenials_WantAnOpinion has a middleware answer 401 about bad tokens of viewers at many addresses, or about all
// requests since it takes Usher's own password no more.
func TestBreaker_PossibleDenials_WantAnOpinion(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answered int           // viewers before
		ago      time.Duration // since then
		isGood   bool          // the tokens of those who were answered still are
		isSpent  bool          // that of the last one is not
		isOne    bool          // all bad tokens are of one address
		isLast   bool          // which was answered a moment before
		isTwo    bool          // they are of that and of another address in turn
		isDown   bool
	}{
		"bad tokens of one address, where all are spent":                               {answered: 2, ago: time.Hour, isOne: true},
		"bad tokens of the address that was answered last, which gave its good one up": {answered: 1, ago: time.Hour, isOne: true, isLast: true},
		"and of another address of that viewer":                                        {answered: 1, ago: time.Hour, isTwo: true, isLast: true},
		"bad tokens":                                                                   {answered: 1, ago: time.Second, isGood: true},
		"bad tokens at a quiet hour":                                                   {answered: 1, ago: time.Hour, isGood: true},
		"and the token that was answered last is spent":                                {answered: 2, ago: time.Hour, isGood: true, isSpent: true},
		"the password":                                   {answered: 2, ago: time.Second, isDown: true},
		"the password at a quiet hour":                   {answered: 2, ago: time.Hour, isDown: true},
		"the password, where one viewer was answered":    {answered: 1, ago: time.Hour, isDown: true},
		"the password, where nobody was answered before": {isDown: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				isChanged := false
				b := newTestBreaker(backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
					isRefused := isChanged && (!tt.isGood || tt.isSpent && r.Address == openingFrom(tt.answered).Address)
					if r.Query == "token=evil" || isRefused {
						return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 401, MayBeDenial: true}
					}
					return allow(ctx, r)
				}))
				for i := range tt.answered {
					_, _ = b.Check(t.Context(), openingFrom(i+1))
				}
				time.Sleep(tt.ago)
				if tt.isLast {
					_, _ = b.Check(t.Context(), openingFrom(100))
					time.Sleep(time.Second)
				}
				isChanged = true
				for i := range 20 {
					r := openingFrom(100 + i)
					switch {
					case tt.isOne:
						r = openingFrom(100)
					case tt.isTwo:
						r = openingFrom(100 + (i+1)%2)
					}
					r.Session[0], r.Query = byte(i+1), "token=evil"
					_, _ = b.Check(t.Context(), r)
					synctest.Wait()
				}
				if b.IsDown() != tt.isDown {
					t.Errorf("the breaker is open: %t, want %t", b.IsDown(), tt.isDown)
				}
			})
		})
	}
}

// TestBreaker_OneAddress_OpensAsFastAsMany has a backend fail for all viewers, who share one address.
func TestBreaker_OneAddress_OpensAsFastAsMany(t *testing.T) {
	t.Parallel()
	for kind, fail := range causable() {
		for _, answeredBefore := range []bool{false, true} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := &switchable{current: allow}
					b := newTestBreaker(s)
					if answeredBefore {
						_, _ = b.Check(t.Context(), openingFrom(1))
						time.Sleep(time.Second)
					}
					s.setBackend(fail)
					start := time.Now()
					var group sync.WaitGroup
					for range DefaultBreakerConfig().ConsecutiveFailures {
						group.Go(func() { _, _ = b.Check(t.Context(), openingFrom(1)) })
					}
					group.Wait()
					synctest.Wait()
					if !b.IsDown() {
						t.Fatal("closed after five failures of everybody, want open")
					}
					if took := time.Since(start); kind == "hang" && took != testTimeout || kind != "hang" && took != 0 {
						t.Errorf("open after %s, want timeout=%s for a backend that hangs, else at once", took, testTimeout)
					}
				})
			})
		}
	}
}

// TestBreaker_SlowBackend_IsAskedOncePerCheck has a backend answer late but in time, for fewer viewers at once than open the
// breaker.
func TestBreaker_SlowBackend_IsAskedOncePerCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			time.Sleep(testTimeout * 9 / 10)
			return allow(ctx, r)
		}}
		b := newTestBreaker(s)
		for range 10 {
			var group sync.WaitGroup
			for i := range 4 {
				group.Go(func() { _, _ = b.Check(t.Context(), openingFrom(i)) })
			}
			group.Wait()
		}
		if asked := s.calls(); asked != 40 || b.history.overdue != 0 {
			t.Errorf("got %d calls for 40 checks and %d overdue after all were answered, want 40 and none", asked, b.history.overdue)
		}
	})
}

// TestBreaker_LocalDecisionIsNoAnswer has an adapter decide by itself on one viewer, between the failures of the others.
func TestBreaker_LocalDecisionIsNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local := openingFrom(1).Address
		s := &switchable{current: func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Address == local {
				return backends.LocalDecision(backends.Denied, "no token"), nil
			}
			return failSent(ctx, r)
		}}
		b := newTestBreaker(s)
		for range DefaultBreakerConfig().ConsecutiveFailures {
			d, err := b.Check(t.Context(), openingFrom(1))
			if err != nil || d.Verdict != backends.Denied {
				t.Fatalf("got %s and error %v, want the local decision", d.Verdict, err)
			}
			_, _ = b.Check(t.Context(), openingFrom(66))
		}
		synctest.Wait()
		if !b.IsDown() {
			t.Error("closed although the backend answered nobody, want open")
		}
	})
}

func TestBreaker_EarlyTimeout(t *testing.T) {
	t.Parallel()
	b := newTestBreaker(nil)
	for took, want := range map[time.Duration]time.Duration{
		0: time.Second, 250 * time.Millisecond: time.Second, 300 * time.Millisecond: 1200 * time.Millisecond,
		500 * time.Millisecond: testTimeout, testTimeout: testTimeout,
	} {
		if got := b.earlyTimeout(took); got != want {
			t.Errorf("after an answer in %s: got %s, want %s", took, got, want)
		}
	}
}

// TestBreaker_ThreeAddresses_NeedNoSecondOpinion has three viewers fail where nobody gets an answer.
func TestBreaker_ThreeAddresses_NeedNoSecondOpinion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		_, _ = b.Check(t.Context(), openingFrom(1))
		time.Sleep(time.Minute)
		s.setBackend(failSent)
		before := s.calls()
		for i := range 5 {
			_, _ = b.Check(t.Context(), openingFrom(i%3))
		}
		synctest.Wait()
		if asked := s.calls() - before; !b.IsDown() || asked != 5 {
			t.Errorf("got state %s after %d calls, want open after the five of the viewers", b.State(), asked)
		}
	})
}

// TestBreaker_FewAddresses_OpensOnceTheAnsweredRequestFailsToo has two viewers, both answered within the window.
func TestBreaker_FewAddresses_OpensOnceTheAnsweredRequestFailsToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		_, _ = b.Check(t.Context(), openingFrom(1))
		_, _ = b.Check(t.Context(), openingFrom(2))
		s.setBackend(failWith(backends.FailureStatus))
		for i := range 5 {
			_, _ = b.Check(t.Context(), openingFrom(1+i%2))
		}
		synctest.Wait()
		if !b.IsDown() {
			t.Error("closed although the backend answers nobody, want open")
		}
	})
}

// TestBreaker_SecondOpinion_AsksAsARecheckOnce looks at what is asked again, and how often.
func TestBreaker_SecondOpinion_AsksAsARecheckOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		release, opinions := make(chan struct{}), make(chan backends.Request, 100)
		b := newBreaker("portal", testTimeout, DefaultBreakerConfig(), backends.BackendFunc(
			func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
				switch {
				case r.Query == "token=evil":
					return failSent(ctx, r)
				case r.Number > 0:
					opinions <- *r
					<-release
				}
				return allow(ctx, r)
			}), Deps{Log: slog.New(slog.NewTextHandler(&out, nil))})
		first := openingFrom(1)
		first.Query, first.OnSent = "token=good", func() { t.Log("asked") }
		_, _ = b.Check(t.Context(), first)
		time.Sleep(time.Minute)
		for range 20 {
			_, _ = b.Check(t.Context(), evilRequest())
		}
		synctest.Wait()
		if len(opinions) != 1 {
			t.Fatalf("got %d second opinions at once, want 1", len(opinions))
		}
		if r := <-opinions; r.Query != "token=good" || r.Address != first.Address || r.OnSent != nil {
			t.Errorf("got %+v asked again, want the answered request without the caller's OnSent", r)
		}
		close(release)
		synctest.Wait()
		log := out.String()
		if strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "backend=portal address="+netip.PrefixFrom(openingFrom(66).Address, 32).String()) {
			t.Errorf("want one warning that names backend and address, got:\n%s", log)
		}
	})
}

// TestBreaker_SecondOpinion_AnsweredEndsTheStreak has one viewer fail on and on. Each opinion is an answer, so the next one
// is asked for after as many failures again.
func TestBreaker_SecondOpinion_AnsweredEndsTheStreak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opinions := 0
		b := newTestBreaker(backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Number > 0 {
				opinions++
			}
			return failFor(66, failSent)(ctx, r)
		}))
		_, _ = b.Check(t.Context(), openingFrom(1))
		time.Sleep(time.Minute)
		for i := range 20 {
			if want := i / DefaultBreakerConfig().ConsecutiveFailures; opinions != want {
				t.Errorf("got %d second opinions after %d failures, want %d", opinions, i, want)
			}
			_, _ = b.Check(t.Context(), evilRequest())
			synctest.Wait()
		}
		if b.IsDown() {
			t.Error("one viewer opened the breaker")
		}
	})
}

// TestBreaker_EarlyOpinion_FailsBeforeTheViewer_StaysClosed has four failures, a fifth call that is late, and an opinion that
// fails meanwhile. The fifth is answered after all.
func TestBreaker_EarlyOpinion_FailsBeforeTheViewer_StaysClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		_, _ = b.Check(t.Context(), openingFrom(1))
		time.Sleep(time.Minute)
		s.setBackend(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Address != openingFrom(3).Address {
				return failSent(ctx, r)
			}
			time.Sleep(testTimeout * 3 / 4)
			return allow(ctx, r)
		})
		for range DefaultBreakerConfig().ConsecutiveFailures - 1 {
			_, _ = b.Check(t.Context(), openingFrom(2))
		}
		before := s.calls()
		if d, err := b.Check(t.Context(), openingFrom(3)); err != nil || d.Verdict != backends.Allowed {
			t.Fatalf("got %s and error %v, want the late answer", d.Verdict, err)
		}
		synctest.Wait()
		if asked := s.calls() - before; b.IsDown() || asked != 2 {
			t.Errorf("got state %s after %d calls, want closed after the viewer's and an opinion", b.State(), asked)
		}
	})
}

// TestBreaker_SecondOpinion_OpenBreaker_AsksNothing has the breaker open before the opinion is asked for. Another may follow.
func TestBreaker_SecondOpinion_OpenBreaker_AsksNothing(t *testing.T) {
	t.Parallel()
	s := &switchable{current: allow}
	b := newTestBreaker(s)
	_, _ = b.Check(t.Context(), openingFrom(1))
	b.history.wantsOpinion = true
	answered, ok := b.history.takeOpinion(time.Now())
	if !ok {
		t.Fatal("no opinion to ask for")
	}
	openBreaker(t, b, s)
	before := s.calls()
	b.askAgain(t.Context(), answered, testTimeout)
	if s.calls() != before || b.history.opinionInFlight {
		t.Errorf("got %d calls and an opinion in flight: %t, want neither", s.calls()-before, b.history.opinionInFlight)
	}
}

// TestBreaker_SecondOpinion_ProvesNothingBesideAnAnswer has the answered request fail while another viewer is answered.
func TestBreaker_SecondOpinion_ProvesNothingBesideAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Number > 0 {
				return hang(ctx, r)
			}
			return failFor(66, failSent)(ctx, r)
		}))
		_, _ = b.Check(t.Context(), openingFrom(1))
		time.Sleep(time.Minute)
		for range 5 {
			_, _ = b.Check(t.Context(), evilRequest())
		}
		synctest.Wait()
		_, _ = b.Check(t.Context(), openingFrom(2))
		time.Sleep(testTimeout)
		synctest.Wait()
		if b.IsDown() {
			t.Error("open although another viewer was answered meanwhile, want closed")
		}
	})
}

// TestBreaker_SecondOpinion_WarnsOfOneAddressOnly has an opinion after which there is nothing to warn of: the backend fails for
// everybody, or is slow for everybody and has failed for nobody.
func TestBreaker_SecondOpinion_WarnsOfOneAddressOnly(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]backends.BackendFunc{
		"a failure for everybody": failSent,
		"slow and never a failure": func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Number == 0 {
				time.Sleep(testTimeout * 3 / 4)
			}
			return allow(ctx, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				s := &switchable{current: allow}
				b := newBreaker("portal", testTimeout, DefaultBreakerConfig(), s, Deps{Log: slog.New(slog.NewTextHandler(&out, nil))})
				_, _ = b.Check(t.Context(), openingFrom(1))
				time.Sleep(time.Minute)
				s.setBackend(fail)
				before := s.calls()
				var group sync.WaitGroup
				for range DefaultBreakerConfig().ConsecutiveFailures {
					group.Go(func() { _, _ = b.Check(t.Context(), openingFrom(1)) })
				}
				group.Wait()
				synctest.Wait()
				if opinions := s.calls() - before - DefaultBreakerConfig().ConsecutiveFailures; opinions != 1 {
					t.Errorf("got %d second opinions, want 1", opinions)
				}
				if log := out.String(); log != "" {
					t.Errorf("want no warning, got:\n%s", log)
				}
			})
		})
	}
}

// TestBreaker_ConnectFailures_NeedNoSecondOpinion has half of the connections refused, for one address.
func TestBreaker_ConnectFailures_NeedNoSecondOpinion(t *testing.T) {
	t.Parallel()
	s := &switchable{}
	b := newTestBreaker(s)
	for i := range 20 {
		s.setBackend(allow)
		if i%2 == 1 {
			s.setBackend(failWith(backends.FailureTransport))
		}
		_, _ = b.Check(t.Context(), openingFrom(1))
	}
	if !b.IsDown() {
		t.Error("closed after 10 refused connections of 20, want open")
	}
}

// TestBreaker_Probe_OneViewerCannotProlongIt has the viewer who fails ask for each probe.
func TestBreaker_Probe_OneViewerCannotProlongIt(t *testing.T) {
	t.Parallel()
	for kind, fail := range causable() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &switchable{current: allow}
				b := newTestBreaker(s)
				openBreaker(t, b, s)
				s.setBackend(failFor(66, fail))
				time.Sleep(6 * time.Second)
				_, _ = b.Check(t.Context(), evilRequest())
				time.Sleep(testTimeout)
				synctest.Wait()
				time.Sleep(6 * time.Second)
				_, _ = b.Check(t.Context(), evilRequest())
				time.Sleep(testTimeout)
				synctest.Wait()
				if b.State() != backends.BreakerHalfOpen {
					t.Fatalf("got state %s after the same viewer's next failure, want half-open", b.State())
				}
				_, _ = b.Check(t.Context(), recheckFrom(1))
				if b.IsDown() {
					t.Error("open after another viewer's answer, want closed")
				}
			})
		})
	}
}

// TestBreaker_MayWarn_OncePerInterval asks whether a warning is due, at several times after the first one.
func TestBreaker_MayWarn_OncePerInterval(t *testing.T) {
	t.Parallel()
	b := newTestBreaker(backends.BackendFunc(allow))
	start := time.Unix(1_800_000_000, 0)
	for _, ask := range []struct {
		after time.Duration
		want  bool
	}{
		{0, true},
		{0, false},
		{opinionWarnInterval - time.Second, false},
		{opinionWarnInterval, true},
		{opinionWarnInterval, false},
		{2*opinionWarnInterval + time.Second, true},
	} {
		if got := b.mayWarn(start.Add(ask.after)); got != ask.want {
			t.Errorf("%s after the first warning: got %t, want %t", ask.after, got, ask.want)
		}
	}
}
