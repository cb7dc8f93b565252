package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

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
	// Sample is the share of sessions that are traced, 0 to 1.
	Sample float64 `yaml:"sample"`
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
	if !(t.Sample >= 0 && t.Sample <= 1) {
		errs = append(errs, fmt.Errorf("sample: %v is out of range; want 0 to 1", t.Sample))
	}
	return errors.Join(errs...)
}

// tracer makes the node's tracer, nil if there is no endpoint, and what flushes it.
func (t tracingSettings) tracer(ctx context.Context) (trace.Tracer, func(context.Context) error, error) {
	if t.Endpoint == "" {
		return nil, func(context.Context) error { return nil }, nil
	}
	exporter, err := t.exporter(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("tracing.endpoint=%s: %w", t.Endpoint, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(t.Sample))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "usher"), attribute.String("service.version", version()))),
	)
	return provider.Tracer("usher"), provider.Shutdown, nil
}

func (t tracingSettings) exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if t.Protocol == "http" {
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.Endpoint+"/v1/traces"))
	}
	return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(t.Endpoint))
}

// flushPatience is how long the last traces may take to leave.
const flushPatience = 5 * time.Second
