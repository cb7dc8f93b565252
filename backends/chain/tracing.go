package chain

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"usher/backends"
)

// tracing records each call to a backend as a client span, "backend.check". No attribute holds a credential: no query, no
// path, no header. Safe for concurrent use.
type tracing struct {
	name, kind string
	tracer     trace.Tracer
	next       backends.Backend
}

// newTracing traces the calls to the named backend of that kind. tracer may be nil.
func newTracing(name, kind string, tracer trace.Tracer, next backends.Backend) *tracing {
	if tracer == nil {
		tracer = noop.NewTracerProvider().Tracer("")
	}
	return &tracing{name: name, kind: kind, tracer: tracer, next: next}
}

// Check asks the backend within a span.
func (t *tracing) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	ctx, span := t.tracer.Start(ctx, "backend.check", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	if !span.IsRecording() {
		return t.next.Check(ctx, r)
	}
	span.SetAttributes(
		attribute.String("usher.backend", t.name),
		attribute.String("usher.backend.kind", t.kind),
		attribute.String("session.id", r.Session.String()),
		attribute.String("usher.channel", r.Channel),
		attribute.Int("usher.check.number", r.Number),
	)
	d, err := t.next.Check(ctx, r)
	if err != nil {
		recordError(span, err)
		return d, err
	}
	span.SetAttributes(
		attribute.String("usher.verdict", d.Verdict.String()),
		attribute.String("usher.source", d.Source.String()),
	)
	if d.UserID != "" {
		span.SetAttributes(attribute.String("user.id", d.UserID))
	}
	if d.User != "" {
		span.SetAttributes(attribute.String("user.name", d.User))
	}
	return d, nil
}

// recordError records why there is no answer. A viewer who left is not the backend's error.
func recordError(span trace.Span, err error) {
	switch f := backends.AsFailure(err); {
	case f != nil:
		span.SetAttributes(attribute.String("error.type", f.Kind.String()))
		if f.Status > 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", f.Status))
		}
		span.SetStatus(codes.Error, f.Error())
	case errors.Is(err, context.Canceled):
		span.SetAttributes(attribute.Bool("usher.cancelled", true))
	default:
		span.SetStatus(codes.Error, err.Error())
	}
}

// recordBreakerState records on the caller's span why no call follows.
func recordBreakerState(ctx context.Context, state backends.BreakerState) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	value := attribute.String("usher.breaker.state", state.String())
	span.SetAttributes(value)
	span.AddEvent("breaker", trace.WithAttributes(value))
}
