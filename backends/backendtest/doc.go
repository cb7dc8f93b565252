// Package backendtest has what backends are tried against: [Server], a middleware that does on command whatever
// middlewares do on bad days, [RunContract], the suite that every backend passes, [RunPresets], the suite of what each
// preset promises in an outage, and [Fake], a backend in memory.
//
// The server speaks real HTTP on a real port, and tests, the demo and the bench harness all play against it. So it is
// steered by values that a scenario file can spell ([Mode]), and needs no test around it.
//
// Invariants:
//   - A mode changes for the next request; a call that hangs goes on hanging until its client leaves or Close.
//   - Close waits for everything that the server started.
//   - After refusing connections it comes back on the same port.
//
// Decided: one server with modes rather than one fake a failure, because what goes wrong in the field is a backend that
// changes under load. Refused: sleeping; every wait ends with its client, its server, or its timer, whichever is first.
package backendtest
