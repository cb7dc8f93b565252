// Package e2e tries the built binary as an operator runs it: real players, real origins, a real process.
//
//	ffmpeg, hls.js in Chromium, scripted viewers
//	        │
//	   recorder      a reverse proxy of the test's, like the balancer in front of a node; writes every exchange down
//	        │
//	 usher serve     the binary, built with -race, in a process group of its own
//	   │         │
//	 origin   middleware     nginx over ffmpeg's live segments, or bench/stage; backends/backendtest
//
// The files cluster_*_test.go try several nodes that share a Redis, behind a balancer that sends each request to another
// one:
//
//	scripted viewers, by the hundred
//	        │
//	    witness      sees every answer, and which node gave it
//	        │
//	    HAProxy ─── usher serve × 3 ─── redis-server: one, under Sentinels, or a Redis Cluster; ended, frozen, flushed
//	                 │         │
//	              origin   middleware
//
// There is nothing but tests in here. They need Debian packages, which deploy/test.sh installs, and fail by naming the one
// that is missing: a run that skipped its players would prove nothing.
//
// Invariants:
//   - Nothing is taken on trust from the process that is tried: what viewers got is what the recorder saw, what the
//     middleware was asked is what the middleware saw.
//   - Tests wait for facts, never for a time to pass. A wait has a deadline, which only ends a test that failed.
//   - Every process ends with its test, by its process group; its log is shown if the test failed. A data race or a
//     line that begins with BUG in it fails the test, whatever else was seen.
//
// Decided: time is measured only where it is the promise itself: the latency of low-latency HLS, as the difference of
// two players in one page; how often the middleware is asked, by its own clock; and how long a new viewer waits while it
// is away, with a deadline so long that who had to wait for it cannot be mistaken.
//
// Decided: what is measured, and the crowd that keeps the machine busy, run one after the other and before all others,
// with the binary as operators have it; so do those that take Redis away, a few at once. All others run the one with the
// race detector in it. What a machine needs is printed, never asserted: that a node waits for Redis no longer than told is
// the business of packages cluster and actors, on a clock that jumps.
//
// Decided: ports are taken from below the range that the system lends to outgoing connections, so that a node that is
// down for a moment finds its own port again.
package e2e
