// Package viewer plays HLS as crowds of viewers do, and asks as edges do: an open-loop generator of load.
//
// Begin with [Run]. A pace says when viewers start. Each opens an entry URL, follows redirects, chooses a variant, fills a buffer, and
// then reloads the playlist every target duration and fetches each new segment. Viewers zap, pause, leave, come back, change their
// address and reach other nodes.
//
//	pace ──▶ wheel ──▶ worker: a viewer's turn ──▶ wire ──▶ server
//	           ▲                │ playlist          └─▶ record
//	           └── due again ◀──┘
//
// Invariants:
//   - A viewer's schedule is fixed at their start. A slow answer moves no later request of theirs, and the latency of each counts
//     from its place in the schedule: there is no coordinated omission.
//   - Nothing is left out in silence. What could not be sent within the timeout is counted as dropped, but for the reloads that a failure
//     put off. If the generator itself was late, or requests had no complete answer when the run ended, the result has a note that says so.
//   - A live list that lists nothing, or nothing new for longer than a node serves a stale one, and an empty segment are failures: such a
//     channel does not play.
//   - A server that stops answering fails, also shortly before the end: a request that has waited longer than a node takes when the run
//     ends, and than any of its kind that was answered, is the failure "no answer".
//   - A viewer at rest is one row of a table without pointers and the text of their URLs: see BenchmarkEngine_Memory.
//
// Beside requests the recorder gets counts: zaps, pauses, leaves, returns, roams, hops; segments.missed, which fell out of the playlist
// before a viewer had them; denials and free_rides of viewers whom the middleware refuses.
//
// Decided: the plan is one of whole ticks of 100 µs, and a request is sent some 30 µs after its tick on an idle machine. A reload
// that comes due while the viewer's last request waits is sent next, so a slow server gets what it owes, up to the timeout.
//
// Decided: a failed request owes nothing. The viewer tries again after a pause, as players do, and the reloads of the schedule that came due
// until then are neither sent nor dropped: a hang of ten seconds is one failure that took ten seconds, and not five more at a target
// duration of two. Judge a hang by its failures, and not by a percentile of latencies alone.
//
// Decided: a viewer plays over one connection, one request at a time, as set-top boxes do, and over a second one where segments come
// from another host. With HTTP/2 it is one request at a time too. Chance is drawn from a seed, the viewer's number and the schedule, so
// that two targets see the same viewers.
//
// Refused: cookies, which set-top boxes do not keep; decryption, key requests and low-latency parts.
package viewer
