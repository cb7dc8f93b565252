// Package result holds what a run of the harness measured, as one versioned JSON document: the contract between the load
// generator, the scenarios' assertions, the reports and the comparison of two runs.
//
// A [Run] has one [Measurement] for each target and round; a run against several targets measures them in alternation. Latencies
// are histograms whose buckets travel along, so that rounds merge without loss. What changes over time is in series of one value
// a second.
//
// Refused: quantiles alone. Those of two rounds cannot be merged.
package result
