// Package freerides reports what fail-open cost: for each outage of a backend how many viewers watched without an answer, whom
// the backend then denied, for how long, and of whom nobody can tell.
//
//	sessions ── Decided ──► Tracker ── part, every 10 s ──► Store ◄── the other nodes' parts
//	                           ▲                              │
//	                 "save now"│ Ask                          ▼
//	                           └───────────────────────── Reports ──► GET /api/v1/free-rides, JSON or CSV
//
// A session is unverified while it is allowed without an answer: by fail-open, by a decision of before the outage that the
// outage policy keeps (cached), or by its ticket. It is a free ride if the backend's next answer denies it, as in the metric
// usher_free_rides_total. A session that closes before has an unknown price.
//
// An outage begins, on each node, with the first session that becomes unverified by fail-open or by the outage policy. Sessions
// join it until the breaker is closed, and for a minute after that or after the last one joined. It ends when the breaker is
// closed and each of its sessions was verified, denied or closed. One that cannot be asked any more, because the life of its
// token is over, keeps it open, and counts as such; a later outage is one of its own all the same. When it is over, the node logs
// what it cost there.
//
// Each process writes its part of an outage to the store, every 10 seconds and at the end, so a node that is killed leaves
// what it saw. A report merges the parts of one backend whose times overlap or are less than a minute apart, on the node that is
// asked. Every live node saves its part before that, so that the report is of this moment.
//
// Invariants:
//   - A session that several nodes saw counts once in the report, and on each node in its nodes. Its time is that from the first
//     to the last moment without an answer, at most the sum of what the nodes saw.
//   - Up to 1,000 sessions a node the numbers are exact. Beyond that a node counts all of its sessions and keeps the 1,000 with
//     the smallest ids, which are keyed hashes; how many sessions other nodes saw too is estimated from these, and the report
//     says so. The report of a single node stays exact, but for a viewer who left and came back, who counts again.
//   - Of a process that is gone, the sessions that no other node saw count as unknown.
//   - At most 100 reports of a backend are listed, and none that ended longer ago than the retention: they name users. The
//     store deletes parts by then.
//   - A decision takes a lock only while sessions are unverified. Each of these takes some 110 bytes, and nothing once it is not.
//
// Decided: an outage without an unverified session has no report, since it cost nothing; neither has a node that restarts and
// admits its viewers by their tickets.
//
// Decided: in Redis the parts are encrypted, since they name users. With the memory store they are a list in this process, and
// lost when it ends. What was not saved when Redis failed is saved after that.
//
// Decided: times are those of the nodes' clocks. Clocks that differ by a minute or more make two reports of one outage.
//
// Decided: a session that closes without an answer counts until it closes, which is idle_timeout after its viewer left, as in its
// closing record.
//
// Decided: a session whose route has another backend since a reload stays in the outage, until the new backend answers. It was
// let in because the old one did not.
//
// Decided: the metrics count what each node saw. Their sum exceeds the report where the requests of one viewer reach several
// nodes.
//
// Refused: a record of each unverified session in Redis. A million of them would be a hundred megabytes and as many writes at
// the moment when the backend recovers.
//
// Refused: the sessions' closing records as the source. They come when a session ends, hours after the outage.
package freerides
