package chain

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"usher/backends"
)

func newTracer(t *testing.T) (trace.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return provider.Tracer("test"), exporter
}

func attributesOf(span tracetest.SpanStub) map[string]any {
	all := make(map[string]any, len(span.Attributes))
	for _, a := range span.Attributes {
		all[string(a.Key)] = a.Value.AsInterface()
	}
	return all
}

func TestTracing_ClientSpanWithoutCredentials(t *testing.T) {
	t.Parallel()
	id := backends.SessionID{1, 2, 3}
	common := map[string]any{
		"usher.backend": "portal", "usher.backend.kind": "httprequest", "session.id": id.String(),
		"usher.channel": "a001", "usher.check.number": int64(2),
	}
	with := func(more map[string]any) map[string]any {
		all := map[string]any{}
		for _, m := range []map[string]any{common, more} {
			maps.Copy(all, m)
		}
		return all
	}
	tests := map[string]struct {
		next   backends.BackendFunc
		want   map[string]any
		status codes.Code
	}{
		"allowed": {
			answerWith(backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, UserID: "u1", User: "ann"}),
			with(map[string]any{"usher.verdict": "allowed", "usher.source": "backend", "user.id": "u1", "user.name": "ann"}), codes.Unset,
		},
		"denied is no error": {
			answerWith(backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}),
			with(map[string]any{"usher.verdict": "denied", "usher.source": "backend"}), codes.Unset,
		},
		"a failure says its kind and status": {
			failWith(backends.FailureStatus),
			with(map[string]any{"error.type": "status", "http.response.status_code": int64(503)}), codes.Error,
		},
		"a failure without a status has none": {
			failSent, with(map[string]any{"error.type": "transport"}), codes.Error,
		},
		"an overload is an error without a type": {
			func(context.Context, *backends.Request) (backends.Decision, error) {
				return backends.Decision{}, backends.NewOverload("backends.portal.max_in_flight", 2)
			},
			common, codes.Error,
		},
		"a viewer who left is no error": {
			func(context.Context, *backends.Request) (backends.Decision, error) {
				return backends.Decision{}, context.Canceled
			},
			with(map[string]any{"usher.cancelled": true}), codes.Unset,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tracer, exporter := newTracer(t)
			r := &backends.Request{
				Session: id, Number: 2, Channel: "a001", Query: "token=5ecret", Path: "/live/user/5ecret/a001.m3u8",
				Headers: []backends.Header{{Name: "Authorization", Value: "5ecret"}},
			}
			_, _ = newTracing("portal", "httprequest", tracer, tt.next).Check(t.Context(), r)
			spans := exporter.GetSpans()
			if len(spans) != 1 {
				t.Fatalf("got %d spans, want 1", len(spans))
			}
			span := spans[0]
			if span.Name != "backend.check" || span.SpanKind != trace.SpanKindClient || span.Status.Code != tt.status {
				t.Errorf("got span %q of kind %s with status %s", span.Name, span.SpanKind, span.Status.Code)
			}
			if diff := cmp.Diff(tt.want, attributesOf(span)); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if strings.Contains(fmt.Sprintf("%+v", span), "5ecret") {
				t.Error("the span shows the viewer's credentials")
			}
		})
	}
}

func TestBreaker_CallersSpanHasItsState(t *testing.T) {
	t.Parallel()
	tracer, exporter := newTracer(t)
	s := &switchable{current: allow}
	c := New("portal", DefaultConfig(), s, Deps{Tracer: tracer})
	openBreaker(t, c.Breaker, s)
	exporter.Reset()
	ctx, span := tracer.Start(t.Context(), "session.open")
	_, _ = c.Check(ctx, openingFrom(1))
	span.End()
	spans := exporter.GetSpans()
	if len(spans) != 1 {
		t.Fatalf("got %d spans, want the caller's alone, since no call went out", len(spans))
	}
	if got := attributesOf(spans[0])["usher.breaker.state"]; got != "open" {
		t.Errorf("got breaker state %v, want open", got)
	}
	if len(spans[0].Events) != 1 || spans[0].Events[0].Name != "breaker" {
		t.Errorf("got events %v, want one of the breaker", spans[0].Events)
	}
}
