// Package plan reckons what so many viewers need: nodes, Redis servers, calls of the middleware, bandwidth and memory.
//
// A [Demand] is what viewers do, a [Machine] is what a node has, [Costs] are what one operation costs. [Make] multiplies them and
// says which bound is reached first. Every product is listed, so that a reader can check it.
//
// Decided: the costs are those of one machine, in a file with their sources, as package calibrate writes it. A cost that was not
// measured is an estimate, and each plan names it. On a quiet reference machine this writes the file that is shipped:
//
//	go run ./cmd/usher-bench calibrate --out bench/plan/reference.json
//
// Refused: queueing theory. The headroom says how much of a machine is planned with; what happens near its limit is measured with
// a scenario, not reckoned.
package plan
