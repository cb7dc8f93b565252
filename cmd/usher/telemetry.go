package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
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

	"usher/backends/setting"
	"usher/cmd/usher/tracing"
)

// logSettings say what is logged, and in which format.
type logSettings struct {
	// Level is debug, info, warn or error.
	Level logLevel `yaml:"level"`
	// Format is json or text.
	Format string `yaml:"format"`
}

// logLevel is the lowest level that is logged.
type logLevel slog.Level

// MarshalText returns the level in lower case.
func (l logLevel) MarshalText() ([]byte, error) {
	return []byte(strings.ToLower(slog.Level(l).String())), nil
}

// UnmarshalText reads one of the four levels, in lower or upper case.
func (l *logLevel) UnmarshalText(text []byte) error {
	var level slog.Level
	if err := level.UnmarshalText(text); err != nil || strings.ContainsAny(string(text), "+-") {
		return fmt.Errorf("level: %q is unknown; want debug, info, warn or error", text)
	}
	*l = logLevel(level)
	return nil
}

// Validate names every setting that cannot work.
func (l logSettings) Validate() error {
	if l.Format != "json" && l.Format != "text" {
		return fmt.Errorf("format: %q is unknown; want json or text", l.Format)
	}
	return nil
}

// newLogger returns the logger, and its level, which may be changed.
func (l logSettings) newLogger(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(slog.Level(l.Level))
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: formatDuration}
	if l.Format == "text" {
		return slog.New(slog.NewTextHandler(w, o)), level
	}
	return slog.New(slog.NewJSONHandler(w, o)), level
}

// formatDuration writes "5s" instead of the nanoseconds that slog writes in JSON.
func formatDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}

// tracingSettings hold where traces are sent.
type tracingSettings struct {
	// Endpoint is an OTLP receiver, "http://host:4317" or "https://…"; empty: no traces. Over http it may have a path.
	Endpoint string `yaml:"endpoint"`
	// Protocol is grpc or http.
	Protocol string `yaml:"protocol"`
	// Sample is the share of traces that are sent, 0 to 1, besides those of viewers who are denied, turned away or admitted
	// without an answer, and of failed calls.
	Sample float64 `yaml:"sample"`
	// Slow is the duration from which an opening or a re-check is always sent; zero: none is for that.
	Slow time.Duration `yaml:"slow"`
}

// Validate names every setting that cannot work.
func (t tracingSettings) Validate() error {
	var errs []error
	if err := t.validateEndpoint(); err != nil {
		errs = append(errs, fmt.Errorf("endpoint: %w", err))
	}
	if t.Protocol != "grpc" && t.Protocol != "http" {
		errs = append(errs, fmt.Errorf("protocol: %q is unknown; want grpc or http", t.Protocol))
	}
	if !(t.Sample >= 0 && t.Sample <= 1) {
		errs = append(errs, fmt.Errorf("sample: %v is out of range; want 0 to 1", t.Sample))
	}
	if t.Slow < 0 {
		errs = append(errs, fmt.Errorf("slow: %v is negative; 0s sends none for being slow", t.Slow))
	}
	return errors.Join(errs...)
}

// validateEndpoint refuses what no exporter sends. Until it is known to have no credential, the URL is not shown.
func (t tracingSettings) validateEndpoint() error {
	u, err := url.Parse(t.Endpoint)
	switch {
	case t.Endpoint == "":
		return nil
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return errors.New("want http://host:4317 or https://host:4317")
	case u.User != nil:
		return errors.New("has a user or a password, which is not sent; want http://host:4317 or https://host:4317")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("has a query or a fragment, which is not sent; want http://host:4317 or https://host:4317")
	case t.Protocol == "grpc" && strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("has the path %q, which grpc does not send; leave it out, or set protocol: http", u.Path)
	}
	return setting.ValidatePort(u.Port())
}

// tracer returns the node's tracer, nil without an endpoint, what it could not send, and a function that flushes and ends it. Traces
// that cannot be sent are logged, and nothing else fails for them. Each span names its node; an empty name is the host's.
func (t tracingSettings) tracer(
	ctx context.Context, logger *slog.Logger, node string,
) (trace.Tracer, *tracing.Dropped, func(), error) {
	if t.Endpoint == "" {
		return nil, new(tracing.Dropped), func() {}, nil
	}
	if node == "" {
		node, _ = os.Hostname() // a node without a name is shown without one
	}
	exporter, err := t.exporter(ctx)
	if err != nil {
		return nil, nil, func() {}, fmt.Errorf("tracing.endpoint: %q: %w", t.Endpoint, err)
	}
	lost := &exportErrorLog{endpoint: t.Endpoint, logger: logger}
	otel.SetErrorHandler(lost)
	processor := tracing.NewProcessor(exporter, tracing.Options{Sample: t.Sample, Slow: t.Slow})
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(processor),
		sdktrace.WithSampler(processor.Sampler()),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "usher"),
			attribute.String("service.version", version()), attribute.String("service.instance.id", node))),
	)
	flush := func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(late); err != nil {
			lost.Handle(err)
		}
	}
	return provider.Tracer("usher"), processor.Dropped(), flush, nil
}

// exportErrorLog logs that traces could not be sent. It is safe for concurrent use.
type exportErrorLog struct {
	endpoint   string
	logger     *slog.Logger
	lastLogged atomic.Int64 // Unix nanoseconds
}

// exportErrorLogInterval keeps the log short while the receiver is unavailable.
const exportErrorLogInterval = time.Minute

// Handle logs an error of the exporter, at most once an interval.
func (l *exportErrorLog) Handle(err error) {
	now, last := time.Now().UnixNano(), l.lastLogged.Load()
	if now-last < int64(exportErrorLogInterval) || !l.lastLogged.CompareAndSwap(last, now) {
		return
	}
	l.logger.Warn("traces not exported; check tracing.endpoint", slog.String("endpoint", l.endpoint), slog.Any("error", err))
}

func (t tracingSettings) exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if t.Protocol == "http" {
		const path = "/v1/traces" // where OTLP has them
		base := strings.TrimSuffix(strings.TrimRight(t.Endpoint, "/"), path)
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(base, "/")+path))
	}
	return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(t.Endpoint))
}

// flushTimeout bounds the export of the last traces at the end.
const flushTimeout = 5 * time.Second
