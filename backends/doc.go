// Package backends is the vocabulary that the whole gateway shares about checks: [Request] (what is asked about a
// viewer), [Backend] (what can be asked), [Decision] (the answer), [Failure] and [Overload] (why there is none), and
// [Policy] (what holds then).
//
//	session ─► chain (fail-open, bulkhead, breaker, tracing) ─► adapter ─► middleware
//	                                                              └─ httpbackend: the HTTP client that adapters share
//
// Folders: chain wraps a backend; callstats counts its calls; httpbackend calls a middleware over HTTP; backendtest holds the
// contract suite and a middleware that fails on command; each other folder is one adapter, a kind of backend.
//
// Invariants:
//   - A denial is a Decision, never an error. An error means that there is no answer within the contract. So neither the
//     breaker nor fail-open knows an HTTP status.
//   - An Overload (one of Usher's own bounds is reached) is neither: it moves no breaker and admits no viewer.
//   - No error, log line or span holds a credential of a viewer or of the config.
//   - The package imports no other of the gateway. Every other may import it.
//
// # Add a kind of backend in 30 minutes
//
// Copy the closest adapter: httprequest (status and headers over HTTP), smarty (reads bodies), securetoken (decides in
// this process), any (asks other backends). Then:
//
//  1. backends/<kind>/doc.go says what the product's contract is, what is uncertain, what is refused.
//  2. backends/<kind>/config.go has Config with yaml tags, DefaultConfig, Validate (all errors at once, each beginning
//     with its key) and ViewerFields (what the kind reads of a viewer's request; nil: a middleware may read any of it). A kind over
//     HTTP embeds httpbackend.Config inline. cmd/usher/viewer_fields_test.go has a case for a route that passes none of the fields on.
//  3. backends/<kind>/backend.go has Backend, which implements [Backend], and New. A kind over HTTP embeds
//     *httpbackend.Client, whose methods the registry of kinds wants too; Check builds an httpbackend.Call. The example
//     of package httpbackend is a whole adapter.
//  4. backends/<kind>/backend_test.go runs backendtest.RunContract and backendtest.RunPresets; main_test.go runs goleak.
//     backendtest.WantRequest compares the request's bytes with testdata. A kind that decides in this process runs neither
//     suite.
//  5. cmd/usher/kinds.go registers the kind: remoteKind (over HTTP), localKind (in this process) or compositeKind (of others).
//  6. deploy/backends/<kind>.yaml is its page: an example, and every default in a comment. README.md and the comment above
//     backends in deploy/usher.yaml list the kind.
//
// These tests cover the new kind without a change: cmd/usher's pages test (the page exists, parses, names every key, and
// shows the true defaults) and its import test (an adapter imports this package and httpbackend, and no other adapter). A kind without
// ViewerFields does not compile in cmd/usher/kinds.go.
package backends
