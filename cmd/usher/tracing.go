package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// tracingSettings are where traces go.
type tracingSettings struct {
	// Endpoint is an OTLP receiver, "http://host:4317" or "https://…"; empty: no traces.
	Endpoint string `yaml:"endpoint"`
	// Protocol is grpc or http.
	Protocol string `yaml:"protocol"`
	// SampleRatio is the share of sessions that are traced, 0 to 1.
	SampleRatio float64 `yaml:"sample_ratio"`
}

// Validate names every setting that cannot work.
func (t tracingSettings) Validate() error {
	var errs []error
	if u, err := url.Parse(t.Endpoint); t.Endpoint != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		errs = append(errs, fmt.Errorf("endpoint: %q: want http://host:4317 or https://host:4317", t.Endpoint))
	}
	if t.Protocol != "grpc" && t.Protocol != "http" {
		errs = append(errs, fmt.Errorf("protocol: %q is unknown; want grpc or http", t.Protocol))
	}
	if !(t.SampleRatio >= 0 && t.SampleRatio <= 1) {
		errs = append(errs, fmt.Errorf("sample_ratio: %v is out of range; want 0 to 1", t.SampleRatio))
	}
	return errors.Join(errs...)
}

// tracer makes the node's tracer, nil if there is no endpoint, and what flushes it. Traces that cannot be sent are told
// in the log; they are no reason for anything else to fail.
func (t tracingSettings) tracer(ctx context.Context, logger *slog.Logger) (trace.Tracer, func(), error) {
	if t.Endpoint == "" {
		return nil, func() {}, nil
	}
	exporter, err := t.exporter(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("tracing.endpoint=%s: %w", t.Endpoint, err)
	}
	lost := &lostTraces{endpoint: t.Endpoint, logger: logger}
	otel.SetErrorHandler(lost)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(t.SampleRatio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "usher"), attribute.String("service.version", version()))),
	)
	flush := func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushPatience)
		defer cancel()
		if err := provider.Shutdown(late); err != nil {
			lost.Handle(err)
		}
	}
	return provider.Tracer("usher"), flush, nil
}

// lostTraces tells the operator of traces that could not be sent.
type lostTraces struct {
	endpoint string
	logger   *slog.Logger
	told     atomic.Int64 // when, Unix nanoseconds
}

// lostTracesPause keeps a receiver that is away for long from filling the log.
const lostTracesPause = time.Minute

// Handle takes what the exporter could not do.
func (l *lostTraces) Handle(err error) {
	now, told := time.Now().UnixNano(), l.told.Load()
	if now-told < int64(lostTracesPause) || !l.told.CompareAndSwap(told, now) {
		return
	}
	l.logger.Warn("traces are lost; viewers are not concerned", slog.String("tracing.endpoint", l.endpoint), slog.Any("error", err))
}

func (t tracingSettings) exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if t.Protocol == "http" {
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.Endpoint+"/v1/traces"))
	}
	return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(t.Endpoint))
}

// flushPatience is how long the last traces may take to leave.
const flushPatience = 5 * time.Second
