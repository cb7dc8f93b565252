// Package load sends prepared requests over keep-alive connections, as wrk and wrk2 do, to compare servers by throughput and by
// the CPU that a request costs. Viewers who behave as players are those of bench/viewer.
//
// Entry point: [Run].
//
// Without a rate the loop is closed: each connection sends its next request when the last one is answered, so latency says how
// the server queues at its limit. With a rate the loop is open: latency counts from the intended send time, so a stall is seen
// by all requests that it delays, and what could not be sent in time is a failure.
//
// Invariants:
//   - A request counts as served only with a 2xx status, its whole body, and the first byte that it expects.
//   - The requests of the warm-up, and those that a closed loop has in flight at the end, are not counted.
//   - When Run returns, all connections are closed.
//
// Decided: fasthttp reads the head and net.Conn the rest. Bodies are discarded from a buffer, so that the generator takes less
// CPU than the servers.
package load
