package redisclient

import (
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"usher/backends"
)

// describeCall describes a call on its caller's span, by OpenTelemetry's conventions for Redis. Keys and arguments are left out,
// because they hold what identifies a viewer.
func describeCall(span trace.Span, s *Script, err error) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", "EVALSHA"),
		attribute.String("db.stored_procedure.name", s.name))
	switch {
	case err == nil:
	case errors.Is(err, backends.ErrStoreUnavailable):
		span.SetAttributes(attribute.String("error.type", "unavailable"))
		span.SetStatus(codes.Error, "redis unavailable")
	default:
		span.SetAttributes(attribute.String("error.type", "_OTHER"))
		span.SetStatus(codes.Error, "redis call failed")
	}
}
