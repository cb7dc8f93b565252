// Package e2e tests the built binary as an operator runs it: with real players, real origins and a real process.
//
//	ffmpeg, hls.js in Chromium, scripted viewers
//	        │
//	   recorder      a reverse proxy, like a balancer in front of a node, that records every exchange
//	        │
//	 usher serve     the binary, built with -race, in a process group of its own
//	   │         │
//	 origin   middleware     nginx over ffmpeg's live segments, or bench/stage; backends/backendtest
//
// The files cluster_*_test.go test several nodes that share a Redis, behind a balancer that sends each request to the next
// node:
//
//	hundreds of scripted viewers
//	        │
//	    witness      records every response, and which node sent it
//	        │
//	    HAProxy ─── usher serve × 3 ─── redis-server: one, with Sentinels, or a Redis Cluster; stopped, frozen, flushed
//	                 │         │
//	              origin   middleware
//
// The files odd_*_test.go play what origins list in odd forms, and compare with a player that asks the origin itself. A play goes
// from the origin, from one node, from a node that never saw the playlist, and from one that has restarted since.
//
// The package holds only tests. They need Debian packages, which deploy/test.sh installs. A test without its package fails
// and names it: a run that skips its players proves nothing.
//
// Invariants:
//   - No test trusts the process under test: the recorder says what viewers got, and the middleware which calls it got.
//   - Tests wait for conditions, never for a time to pass. The deadline of a wait only ends a test that fails.
//   - Every process and its process group end with the test. A failed test shows their logs. A data race, a panic or a log
//     message that begins with BUG fails the test.
//
// Decided: the nodes of half of the tests speak TLS, so that one run tests both of the gateway's fronts; -front=plain and -front=tls run
// all tests over one of them. The recorder and the balancers speak HTTP to players then, and TLS to nodes. Nodes of the samples in
// deploy speak what the samples say.
//
// Decided: Traefik is among the edges only where -traefik names one, because its build takes ten minutes: see deploy/traefik.sh.
//
// Decided: tests measure time only where it is the promise: the latency of low-latency HLS, as the difference of two players
// in one page; the rate of the middleware's calls, by its own clock; and how long a new viewer waits in an outage, with a
// deadline that is much longer than any other delay.
//
// Decided: tests that measure or that load the machine run first, one after the other, with the binary that operators run.
// The tests of a Redis outage use that binary too, a few at once. All others run the binary with the race detector. How long
// the machine needs is logged, never asserted: packages cluster and actors test in fake time that a node waits for Redis no
// longer than redis_timeout.
//
// Decided: a server that restarts, or is down for a while, has a port that is reserved to the test's end. Those of Redis are below the range
// of outgoing connections, since a Redis Cluster's bus has a number of its own, 10,000 above; deploy/local-cluster.sh draws from others.
package e2e
