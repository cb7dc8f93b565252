package tracing

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"usher/backends"
)

const (
	// maxOpenTraces bounds the traces whose root has not ended, and maxSpans the spans of one, about 1 kB each.
	maxOpenTraces = 20_000
	maxSpans      = 64
	// maxQueued bounds the spans that wait for the collector.
	maxQueued = 8192
)

// Options say which traces are sent.
type Options struct {
	// Sample is the share of traces that is sent without a reason, 0 to 1.
	Sample float64
	// Slow is the duration from which a trace is always sent; zero: none is for that.
	Slow time.Duration
}

// Processor sends whole traces to an exporter, or drops them. It is safe for concurrent use.
type Processor struct {
	slow    time.Duration
	sampler sdktrace.Sampler
	batches sdktrace.SpanProcessor
	queued  atomic.Int64
	dropped Dropped

	mu   sync.Mutex
	open map[trace.TraceID]*openTrace
}

// Dropped counts spans that were to be sent and were not.
type Dropped struct {
	// QueueFull are spans beyond what may wait for the collector, Failed are those that it did not take, and TooMany are those
	// of traces beyond what may be open at once.
	QueueFull, Failed, TooMany atomic.Uint64
}

// ByReason returns the numbers by the reason's name in metrics. Of nil it returns none.
func (d *Dropped) ByReason() map[string]uint64 {
	if d == nil {
		return nil
	}
	return map[string]uint64{"queue_full": d.QueueFull.Load(), "export_failed": d.Failed.Load(), "too_many_traces": d.TooMany.Load()}
}

// openTrace is a trace of which spans are open.
type openTrace struct {
	active int // spans that have not ended
	ended  []sdktrace.ReadOnlySpan
	// isDecided says that the root has ended; isSent is what became of the trace.
	isDecided, isSent bool
}

// NewProcessor returns a processor. Shutdown sends what waits.
func NewProcessor(exporter sdktrace.SpanExporter, o Options) *Processor {
	p := &Processor{slow: o.Slow, sampler: sdktrace.TraceIDRatioBased(o.Sample), open: map[trace.TraceID]*openTrace{}}
	p.batches = sdktrace.NewBatchSpanProcessor(countingExporter{exporter, p}, sdktrace.WithMaxQueueSize(2*maxQueued))
	return p
}

// Sampler returns the sampler for the provider: it records every span, and marks the share as sampled.
func (p *Processor) Sampler() sdktrace.Sampler {
	never := recordAll{sdktrace.NeverSample()}
	return sdktrace.ParentBased(recordAll{p.sampler},
		sdktrace.WithLocalParentNotSampled(never), sdktrace.WithRemoteParentNotSampled(never))
}

// Dropped returns the counters of spans that were not sent.
func (p *Processor) Dropped() *Dropped { return &p.dropped }

// recordAll records what another sampler would drop.
type recordAll struct{ sdktrace.Sampler }

// ShouldSample implements sdktrace.Sampler.
func (r recordAll) ShouldSample(s sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := r.Sampler.ShouldSample(s)
	if result.Decision == sdktrace.Drop {
		result.Decision = sdktrace.RecordOnly
	}
	return result
}

// OnStart implements sdktrace.SpanProcessor.
func (p *Processor) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := s.SpanContext().TraceID()
	t := p.open[id]
	if t == nil {
		if len(p.open) >= maxOpenTraces {
			return
		}
		t = new(openTrace)
		p.open[id] = t
	}
	t.active++
}

// OnEnd implements sdktrace.SpanProcessor.
func (p *Processor) OnEnd(s sdktrace.ReadOnlySpan) {
	for _, ready := range p.take(s) {
		p.send(ready)
	}
}

// take adds an ended span to its trace, and returns the spans that can be sent now.
func (p *Processor) take(s sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := s.SpanContext().TraceID()
	t := p.open[id]
	if t == nil {
		p.dropped.TooMany.Add(1)
		return nil
	}
	if t.active--; t.active == 0 {
		delete(p.open, id)
	}
	switch {
	case t.isDecided && t.isSent:
		return []sdktrace.ReadOnlySpan{s}
	case t.isDecided:
		return nil
	case len(t.ended) < maxSpans:
		t.ended = append(t.ended, s)
	default:
		p.dropped.TooMany.Add(1)
	}
	// Without active spans there is nothing to wait for, even where the root is another process's.
	isRoot := !s.Parent().IsValid() || s.Parent().IsRemote()
	if !isRoot && t.active > 0 {
		return nil
	}
	t.isDecided, t.isSent = true, p.isKept(s, t.ended)
	ended := t.ended
	if t.ended = nil; !t.isSent {
		return nil
	}
	return ended
}

// isKept reports whether a trace is sent. last is its root, or the span that ended last.
func (p *Processor) isKept(last sdktrace.ReadOnlySpan, all []sdktrace.ReadOnlySpan) bool {
	if last.SpanContext().IsSampled() || p.slow > 0 && last.EndTime().Sub(last.StartTime()) >= p.slow {
		return true
	}
	for _, s := range all {
		if s.Status().Code == codes.Error || isRemarkable(s.Attributes()) {
			return true
		}
	}
	return false
}

// isRemarkable reports whether attributes tell of a viewer who was denied, turned away or admitted without an answer.
func isRemarkable(attributes []attribute.KeyValue) bool {
	for _, a := range attributes {
		switch a.Key {
		case "usher.verdict":
			if a.Value.AsString() != "allowed" {
				return true
			}
		case "usher.source":
			if isUnverified(a.Value.AsString()) {
				return true
			}
		}
	}
	return false
}

// isUnverified reports whether a text names a source that admits without an answer.
func isUnverified(text string) bool {
	for s := backends.SourceNone + 1; s <= backends.FromOperator; s++ {
		if s.String() == text {
			return !s.IsAuthoritative()
		}
	}
	return false
}

// send gives a span to the batches, or drops it.
func (p *Processor) send(s sdktrace.ReadOnlySpan) {
	if p.queued.Add(1) > maxQueued {
		p.queued.Add(-1)
		p.dropped.QueueFull.Add(1)
		return
	}
	p.batches.OnEnd(sampledSpan{s})
}

// Shutdown implements sdktrace.SpanProcessor.
func (p *Processor) Shutdown(ctx context.Context) error { return p.batches.Shutdown(ctx) }

// ForceFlush implements sdktrace.SpanProcessor.
func (p *Processor) ForceFlush(ctx context.Context) error { return p.batches.ForceFlush(ctx) }

// sampledSpan is a span that is sent, whatever was decided when it began.
type sampledSpan struct{ sdktrace.ReadOnlySpan }

// SpanContext returns the span's context, sampled.
func (s sampledSpan) SpanContext() trace.SpanContext {
	sc := s.ReadOnlySpan.SpanContext()
	return sc.WithTraceFlags(sc.TraceFlags().WithSampled(true))
}

// countingExporter counts the spans that leave the queue.
type countingExporter struct {
	sdktrace.SpanExporter
	processor *Processor
}

// ExportSpans implements sdktrace.SpanExporter.
func (e countingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.processor.queued.Add(-int64(len(spans)))
	if err != nil {
		e.processor.dropped.Failed.Add(uint64(len(spans)))
	}
	return err
}
