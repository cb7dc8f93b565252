package actors

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"usher/actors/session"
	"usher/backends"
)

// traced starts a node that records its spans.
func traced(b *fakeBackend, edit func(*setup)) (*node, *tracetest.SpanRecorder, trace.Tracer) {
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	n := newNode(b, &fakeCluster{}, func(s *setup) {
		s.Tracer = tracer
		if edit != nil {
			edit(s)
		}
	})
	return n, spans, tracer
}

func names(spans []sdktrace.ReadOnlySpan) (all []string) {
	for _, s := range spans {
		all = append(all, s.Name())
	}
	return all
}

func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	all := make(map[string]string)
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func TestSessionTrace_RechecksLinkToOpening(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		n, spans, tracer := traced(b, nil)
		defer n.closeAndDrain()
		var check trace.SpanContext
		b.check = func(ctx context.Context, _ *backends.Request) (backends.Decision, error) {
			check = trace.SpanContextFromContext(ctx)
			return allowedDecision(), nil
		}
		ctx, request := tracer.Start(t.Context(), "GET /play")
		if _, err := n.Open(ctx, openRequest(1)); err != nil {
			t.Fatalf("open session: %v", err)
		}
		request.End()
		n.keepWatching(t, openRequest(1), 4*time.Minute, nil)
		synctest.Wait()

		ended := spans.Ended()
		if diff := cmp.Diff([]string{"cluster.acquire_lease", "session.open", "GET /play", "session.recheck"}, names(ended)); diff != "" {
			t.Fatalf("spans (-want +got):\n%s", diff)
		}
		lookup, opening, recheck := ended[0], ended[1], ended[3]
		if got := opening.Parent().SpanID(); got != request.SpanContext().SpanID() {
			t.Errorf("the opening's parent is %v, want the request", got)
		}
		if got := lookup.Parent().SpanID(); got != opening.SpanContext().SpanID() {
			t.Errorf("the look-up's parent is %v, want the opening", got)
		}
		if diff := cmp.Diff(map[string]string{"usher.found": "false", "usher.lease": "false"}, attributes(lookup)); diff != "" {
			t.Errorf("attributes of the look-up (-want +got):\n%s", diff)
		}
		if recheck.SpanContext().TraceID() == opening.SpanContext().TraceID() {
			t.Error("the re-check is in the opening's trace, want one of its own")
		}
		if links := recheck.Links(); len(links) != 1 || !links[0].SpanContext.Equal(opening.SpanContext()) {
			t.Errorf("the re-check's links are %v, want the opening", links)
		}
		if check.SpanID() != recheck.SpanContext().SpanID() {
			t.Errorf("the re-check's call is a child of %v, want the re-check", check.SpanID())
		}
		if diff := cmp.Diff(map[string]string{
			"session.id": idOf(1).String(), "usher.route": "play", "usher.channel": "a001", "usher.backend": "portal",
			"usher.verdict": "allowed", "usher.source": "backend", "user.id": "17", "user.name": "Ann",
		}, attributes(opening)); diff != "" {
			t.Errorf("attributes of the opening (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]string{
			"session.id": idOf(1).String(), "usher.channel": "a001", "usher.backend": "portal", "usher.check": "1",
			"usher.verdict": "allowed", "usher.source": "backend", "user.id": "17", "user.name": "Ann",
		}, attributes(recheck)); diff != "" {
			t.Errorf("attributes of the re-check (-want +got):\n%s", diff)
		}
	})
}

// TestSessionTrace_Changes_LinkToOpening kicks a viewer whom the backend allowed. Re-checks that confirm a decision change nothing.
func TestSessionTrace_Changes_LinkToOpening(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n, spans, _ := traced(newFakeBackend(backends.PolicyAllow, nil), nil)
		defer n.closeAndDrain()
		n.keepWatching(t, openRequest(1), 4*time.Minute, nil)
		n.OnRevocation(session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Now(), Decision: session.Kicked("shared")})
		synctest.Wait()
		var changes []sdktrace.ReadOnlySpan
		for _, s := range spans.Ended() {
			if s.Name() == "session.change" {
				changes = append(changes, s)
			}
		}
		if len(changes) != 1 {
			t.Fatalf("spans %v, want one change", names(spans.Ended()))
		}
		if links := changes[0].Links(); len(links) != 1 || !links[0].SpanContext.Equal(spans.Ended()[1].SpanContext()) {
			t.Errorf("the change's links are %v, want the opening", links)
		}
		kicked := session.Kicked("shared")
		want := map[string]string{
			"session.id": idOf(1).String(), "usher.channel": "a001", "usher.backend": "portal", "usher.verdict": "denied",
			"usher.source": kicked.Source.String(), "usher.reason": kicked.Reason, "user.id": "17", "user.name": "Ann",
			"usher.verdict.before": "allowed", "usher.source.before": "backend",
		}
		if diff := cmp.Diff(want, attributes(changes[0])); diff != "" {
			t.Errorf("attributes of the change (-want +got):\n%s", diff)
		}
	})
}

func TestSessionTrace_OpeningSpanEnds(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		check   func(context.Context, *backends.Request) (backends.Decision, error)
		edit    func(*setup)
		request func() session.OpenRequest
		verdict string
		spans   int
	}{
		"denied": {
			check:   func(context.Context, *backends.Request) (backends.Decision, error) { return deniedDecision(), nil },
			request: func() session.OpenRequest { return openRequest(1) }, verdict: "denied", spans: 1,
		},
		"at the answer deadline": {
			check: hang, request: func() session.OpenRequest { return openRequest(1) }, verdict: "allowed", spans: 1,
		},
		"an unknown ticket": {
			request: func() session.OpenRequest { return ticketRequest(1, time.Now().Add(-7*time.Hour)) }, verdict: "denied", spans: 1,
		},
		"after a panic": {
			edit: func(s *setup) {
				times := 0
				s.SigningKey = func() string {
					if times++; times == 1 {
						panic(errBroken)
					}
					return "a"
				}
			},
			request: func() session.OpenRequest { return openRequest(1) }, verdict: "allowed", spans: 1,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				n, spans, _ := traced(newFakeBackend(backends.PolicyAllow, c.check), c.edit)
				n.watch(t, c.request())
				n.closeAndDrain()
				if started, ended := len(spans.Started()), len(spans.Ended()); started != ended {
					t.Errorf("%d spans started, %d ended", started, ended)
				}
				openings := 0
				for _, s := range spans.Ended() {
					if s.Name() != "session.open" {
						continue
					}
					openings++
					if got := attributes(s)["usher.verdict"]; got != c.verdict {
						t.Errorf("verdict %q, want %q", got, c.verdict)
					}
				}
				if openings != c.spans {
					t.Errorf("%d openings' spans, want %d", openings, c.spans)
				}
			})
		})
	}
}

func TestSessionTrace_Panic_EndsSpan(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, breakerOpen)
		b.beforeFallback = panicOnce()
		b.health.Store(uint32(backends.BreakerOpen))
		n, spans, _ := traced(b, nil)
		n.watch(t, openRequest(1))
		n.closeAndDrain()
		if started, ended := names(toReadOnly(spans.Started())), names(spans.Ended()); len(started) != len(ended) {
			t.Errorf("spans %v started, %v ended", started, ended)
		}
	})
}

func toReadOnly(spans []sdktrace.ReadWriteSpan) (all []sdktrace.ReadOnlySpan) {
	for _, s := range spans {
		all = append(all, s)
	}
	return all
}

func TestSessionTrace_CachedPath_NoSpan(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n, spans, _ := traced(newFakeBackend(backends.PolicyAllow, nil), nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		before := len(spans.Started())
		for range 100 {
			n.watch(t, openRequest(1))
			if _, err := n.Open(t.Context(), openRequest(1)); err != nil {
				t.Fatalf("open session: %v", err)
			}
		}
		if got := len(spans.Started()) - before; got != 0 {
			t.Errorf("%d spans for a known session, want none", got)
		}
	})
}

func TestSessionTrace_NoSecretsInSpans(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n, spans, _ := traced(newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Number == 1 {
				return backends.Decision{}, backends.NewOverload("backends.portal.max_rechecks_in_flight", 1)
			}
			return allowedDecision(), nil
		}), nil)
		n.keepWatching(t, openRequest(1), 10*time.Minute, nil)
		n.closeAndDrain()
		for _, s := range spans.Ended() {
			for key, value := range attributes(s) {
				if strings.Contains(value, "s3cret") || strings.Contains(value, "index.m3u8") {
					t.Errorf("%s: attribute %s holds %q", s.Name(), key, value)
				}
			}
			if d := s.Status().Description; strings.Contains(d, "s3cret") {
				t.Errorf("%s: status says %q", s.Name(), d)
			}
			for _, e := range s.Events() {
				t.Errorf("%s: event %q; want none, as events quote errors", s.Name(), e.Name)
			}
		}
		if got := len(spans.Ended()); got < 4 {
			t.Errorf("%d spans, want the opening, its look-up and several re-checks", got)
		}
	})
}

// TestSessionTrace_ComesFrom links to the opening on another node, as that node stored it, and to nothing that is broken.
func TestSessionTrace_ComesFrom(t *testing.T) {
	t.Parallel()
	const traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for name, test := range map[string]struct {
		traceparent string
		want        string // the link, as it is stored again
	}{
		"an opening":      {"00-" + traceID + "-" + spanID + "-01", "00-" + traceID + "-" + spanID + "-01"},
		"nothing":         {"", ""},
		"three parts":     {"00-" + traceID + "-" + spanID, ""},
		"five parts":      {"00-" + traceID + "-" + spanID + "-01-x", ""},
		"no trace":        {"00-x-" + spanID + "-01", ""},
		"no span":         {"00-" + traceID + "-x-01", ""},
		"neither of them": {"00-x-x-01", ""},
	} {
		spans := tracetest.NewSpanRecorder()
		_, opening := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test").Start(t.Context(), "session.open")
		for _, st := range []*sessionTrace{{opening: opening}, {}} {
			st.comesFrom(test.traceparent)
			if got := st.parent(); got != test.want {
				t.Errorf("%s: got %q, want %q", name, got, test.want)
			}
		}
		opening.End()
		if got := len(spans.Ended()[0].Links()); (got == 1) != (test.want != "") {
			t.Errorf("%s: the opening's span has %d links", name, got)
		}
	}
}
