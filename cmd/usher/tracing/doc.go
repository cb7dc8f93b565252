// Package tracing decides which traces leave the node. A [Processor] holds the spans of a trace until its root has ended, and
// then sends or drops them together:
//
//	root ended ─► denied, failed, admitted without an answer, slow, or the caller's trace is sampled ─► sent
//	          └─► any other ─► sent with the share of tracing.sample
//
// Invariants:
//   - A collector that is down, slow or broken costs nothing but spans. They are counted by reason.
//   - Memory is bounded: so many open traces, so many spans a trace, so many spans that wait for the collector.
//   - Of one trace all spans are sent, or none. A span that ends after its root follows it.
//
// Decided: the sampled flag that backends are sent is that of the share alone, so that a middleware with tracing of its own is
// not made to record every call.
//
// Refused: sampling when a trace begins. What an operator looks for, a denial or an outage, is known at its end.
package tracing
