// Package backendtest holds the servers and suites that test backends.
//
// Entry points: [RunContract], the suite that every backend over a network passes; [RunPresets], the suite of the
// presets' outage behaviour; [New], a middleware that fails on command; [Fake], a backend in memory; [WantRequest],
// which compares a request's bytes.
//
// The server speaks real HTTP on a real port. Tests, the demo and the benchmarks use it. So a [Mode] can be written in a
// scenario file, and the server needs no test around it.
//
// Invariants:
//   - A mode changes for the next request. A call that hangs continues to hang until its client leaves or Close.
//   - Close waits for everything that the server started.
//   - After refusing connections the server returns on the same port.
//
// Decided: one server with modes rather than one fake for each failure, because in production a backend changes under
// load. Refused: sleeping; each wait ends with its client, its server or its timer, whichever is first.
package backendtest
