package tracing_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"usher/cmd/usher/tracing"
)

// collector keeps the names of the spans that it gets.
type collector struct {
	mu    sync.Mutex
	names []string
	// fail is returned for every batch; wait delays each.
	fail error
	wait time.Duration
}

func (c *collector) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if c.wait > 0 {
		select {
		case <-time.After(c.wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	for _, s := range spans {
		c.names = append(c.names, s.Name())
	}
	return nil
}

func (*collector) Shutdown(context.Context) error { return nil }

func (c *collector) sorted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.names))
}

// run runs a test in fake time with a tracer, and returns what the collector got at the end.
func run(t *testing.T, c *collector, o tracing.Options, test func(trace.Tracer, *tracing.Processor)) []string {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := tracing.NewProcessor(c, o)
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithSampler(p.Sampler()))
		test(provider.Tracer("test"), p)
		if err := provider.Shutdown(t.Context()); err != nil && c.fail == nil {
			t.Error(err)
		}
	})
	return c.sorted()
}

// opening makes a root with one child that has the attributes.
func opening(ctx context.Context, tr trace.Tracer, child func(trace.Span)) {
	ctx, root := tr.Start(ctx, "root")
	_, span := tr.Start(ctx, "child")
	child(span)
	span.End()
	root.End()
}

func text(key, value string) func(trace.Span) {
	return func(s trace.Span) { s.SetAttributes(attribute.String(key, value)) }
}

func TestProcessor_KeepsWhatOperatorsLookFor(t *testing.T) {
	remote := func(flags trace.TraceFlags) context.Context {
		return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: flags, Remote: true,
		}))
	}
	plain := context.Background()
	for name, test := range map[string]struct {
		sample float64
		ctx    context.Context
		child  func(trace.Span)
		isKept bool
	}{
		"allowed":                        {0, plain, text("usher.verdict", "allowed"), false},
		"allowed, all are sampled":       {1, plain, text("usher.verdict", "allowed"), true},
		"denied":                         {0, plain, text("usher.verdict", "denied"), true},
		"turned away":                    {0, plain, text("usher.verdict", "pending"), true},
		"admitted without an answer":     {0, plain, text("usher.source", "fail-open"), true},
		"kept without an answer":         {0, plain, text("usher.source", "cached"), true},
		"admitted by the ticket alone":   {0, plain, text("usher.source", "ticket"), true},
		"admitted by a local rule":       {0, plain, text("usher.source", "local"), false},
		"failed":                         {0, plain, func(s trace.Span) { s.SetStatus(codes.Error, "timeout") }, true},
		"slow":                           {0, plain, func(trace.Span) { time.Sleep(time.Second) }, true},
		"just not slow":                  {0, plain, func(trace.Span) { time.Sleep(time.Second - 1) }, false},
		"of a caller who traces":         {0, remote(trace.FlagsSampled), text("usher.verdict", "allowed"), true},
		"of a caller who does not":       {0, remote(0), text("usher.verdict", "allowed"), false},
		"denied, the caller traces none": {0, remote(0), text("usher.verdict", "denied"), true},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, new(collector), tracing.Options{Sample: test.sample, Slow: time.Second}, func(tr trace.Tracer, _ *tracing.Processor) {
				opening(test.ctx, tr, test.child)
			})
			var want []string
			if test.isKept {
				want = []string{"child", "root"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("the collector got %v, want %v", got, want)
			}
		})
	}
}

// TestProcessor_LateSpan_FollowsItsRoot ends a call of the backend after the viewer was admitted without its answer.
func TestProcessor_LateSpan_FollowsItsRoot(t *testing.T) {
	for _, source := range []string{"fail-open", "backend"} {
		got := run(t, new(collector), tracing.Options{}, func(tr trace.Tracer, _ *tracing.Processor) {
			ctx, root := tr.Start(context.Background(), "root")
			_, late := tr.Start(ctx, "late")
			root.SetAttributes(attribute.String("usher.source", source))
			root.End()
			late.End()
		})
		var want []string
		if source == "fail-open" {
			want = []string{"late", "root"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the collector got %v, want %v", source, got, want)
		}
	}
}

// TestProcessor_UnsampledFlag_ReachesBackends keeps a middleware that traces too from recording every call.
func TestProcessor_UnsampledFlag_ReachesBackends(t *testing.T) {
	run(t, new(collector), tracing.Options{}, func(tr trace.Tracer, _ *tracing.Processor) {
		_, span := tr.Start(context.Background(), "root")
		if span.SpanContext().IsSampled() || !span.IsRecording() {
			t.Error("want a span that is recorded and not marked as sampled")
		}
		span.End()
	})
}

// TestProcessor_CollectorDown_SpansAreCounted sends more than may wait to a collector that takes nothing.
func TestProcessor_CollectorDown_SpansAreCounted(t *testing.T) {
	const traces = 20_000
	c := &collector{fail: errors.New("connection refused"), wait: time.Minute}
	run(t, c, tracing.Options{Sample: 1}, func(tr trace.Tracer, p *tracing.Processor) {
		for range traces {
			_, s := tr.Start(context.Background(), "root")
			s.End()
		}
		time.Sleep(time.Hour) // the collector is asked meanwhile
		d := p.Dropped()
		if full, failed := d.QueueFull.Load(), d.Failed.Load(); full == 0 || failed == 0 || full+failed != traces {
			t.Errorf("%d did not fit, %d failed; want %d in all", full, failed, traces)
		}
	})
}

// TestProcessor_OpenTraces_Bounded opens more traces than are held, and then ends them.
func TestProcessor_OpenTraces_Bounded(t *testing.T) {
	const traces = 20_100
	got := run(t, new(collector), tracing.Options{Sample: 1}, func(tr trace.Tracer, p *tracing.Processor) {
		spans := make([]trace.Span, traces)
		for i := range spans {
			_, spans[i] = tr.Start(context.Background(), "root")
		}
		for i, s := range spans {
			if s.End(); i%1000 == 0 {
				time.Sleep(time.Minute) // until the collector has them
			}
		}
		if got := p.Dropped().TooMany.Load(); got != 100 {
			t.Errorf("%d spans of too many traces, want 100", got)
		}
		_, s := tr.Start(context.Background(), "after")
		s.End()
	})
	if len(got) != traces-100+1 || got[0] != "after" {
		t.Errorf("the collector got %d spans, want %d", len(got), traces-100+1)
	}
}
