// Package scenario runs viewers against servers by a readable plan, and says whether what it expects holds.
//
// Begin with [Load] and [Run]. A scenario is a YAML file: a sentence on what it shows, knobs, faults and expectations. Those of the
// harness are in the folder scenarios, to be read and copied.
//
// # Times
//
// A duration, or a share of the run: "at: 40%". So a scenario of minutes runs in seconds with another "for".
//
// # Expectations
//
//	errors == 0
//	fault.p99(playlist) <= 2 * quiet.p99(playlist)
//	max(middleware.calls) <= 1.2 * recheck_rate
//	last(sessions.unverified) == 0
//
// An expectation compares two sums of numbers (5, 20ms, 1MB, 10%), knobs, and functions of what was measured:
//
//	errors, errors(op)          failed requests        requests, requests(op)   all requests
//	failures("status 503")      those that failed so   dropped, started, planned, lateness
//	p50(op), p99(op), max(op)   latency                count(name)              a total, such as zaps
//	max(line), min(line), mean(line), sum(line), last(line)   of a line of a result, such as middleware.calls
//	until(line)            how long until it was above zero for the last time
//
// In a phase, such as quiet.errors, it is of that time alone: quiet is from the end of the warm-up to the first fault, fault the time
// of all faults, after from settle behind the last one. The name of a fault is a phase too. In a phase p50 and p99 are the medians of
// those of its seconds, and max is the largest.
//
// Decided: a run in which a server ends that no fault ended is an error, whatever is expected. The viewers of such a server are another's.
//
// Decided: an expectation that no measurement could break is refused: a failure that no request can have, a name of
// nothing that is measured, and a time or a size beside a
// number without a unit, which would be seconds or bytes. Zero needs none.
//
// Decided: an expectation on what was not measured fails, also one on errors of a time in which there was no request. Only one on a line
// that servers tell which the harness did not start is left out, with a note.
//
// Decided: no expectation holds of what has no value, as after a division by zero. A divisor that is zero whatever is measured is refused.
//
// Decided: a scenario whose servers cannot do what it says is refused before they start: nodes that share no Redis, a fault of a server
// that is not there, an edge of a dialect that they do not know, two faults of one server at once, and a fault that leaves no node
// alive while an expectation bounds the failures of that time.
//
// Decided: the end of a fault, such as that of a restart, takes as long as it takes, and delays no fault of another server. One of the same
// server begins when it is over, and makes an error of the run if its own planned end, or that of the run, has come by then, since a fault
// of no length would break no expectation. Once a run is interrupted, no fault begins.
//
// Decided: two runs see the same viewers, and the tokens are good-N and bad-N. Where an operator's servers ask the harness's middleware, the
// time of the run is between: what they know from the last run would leave nothing to ask.
//
// Refused: a general language. A scenario that needs one is a program, and the packages below are its library.
package scenario
