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
// There is nothing but tests in here. They need the Debian packages ffmpeg, nginx, chromium and curl, and fail by
// naming the one that is missing: a run that skipped its players would prove nothing.
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
// Decided: ports are taken from below the range that the system lends to outgoing connections, so that a node that is
// down for a moment finds its own port again.
package e2e
