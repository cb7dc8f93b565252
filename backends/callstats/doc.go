// Package callstats keeps what an operator wants to know of the calls of one backend on one node: how many there are and fail,
// the last failures, how the breaker changed, and whether the backend suddenly denies viewers whom it allowed.
//
// Entry points: [New], then [Stats.RecordCall] for each call, [Stats.RecordState] for each state of the breaker, and
// [Stats.Snapshot].
//
// Invariants:
//   - The time is an argument, and memory does not grow.
//   - Nothing names a viewer. An error's text is that of [backends.Failure], which holds no credential.
//   - No stranger raises the alarm: only re-checks of viewers whom the backend itself has allowed count for it. A flood of
//     tokens that are all denied is none, and neither is the end of an outage, after which viewers are denied who were never
//     allowed.
//
// Decided: denials jump when their share of such answers is 40 percentage points above its average: in the last minute above
// that of the hour before, or in the last hour above that of the days before, so that a backend whose answers hold for hours is
// watched too. Below 20 answers nothing is judged. Without 20 earlier answers the average is taken to be 40 %, so that only
// nearly all denials are a jump. The alarm ends once the last 60 answers are within 20 points of the average before it, or at
// 40 % where none is known. What comes meanwhile does not count for the average, or a long outage would become the normal state.
//
// Decided: each node judges the answers that it got itself. A node that asks nothing for a while keeps its alarm.
package callstats
