// Package record collects what one measurement of the harness finds: requests with their latencies, counts, gauges and faults. It
// makes them a [result.Measurement] with one value a second.
//
// Decided: a request is recorded once, in a histogram of the current second that a tick merges into that of the measurement.
// Requests go to one of a few shards by chance, so that many connections do not wait for one lock.
package record
