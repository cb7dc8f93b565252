// Package httpbackend is the HTTP client that adapters to middlewares share: it builds the request, makes the call, and
// reads the answer by status and headers.
//
// Entry points: [Config], inlined in an adapter's config; [NewClient], embedded in the adapter; [Client.Decide] for a
// backend that answers by status and headers. An adapter that reads bodies calls [Client.Do], then [Client.Interpret] or,
// for an answer that it cannot read, [Client.Malformed]. [AstraHeaders] and [QueryValue] help to build a [Call]; so
// does package flussonicquery.
//
//	Request ─► Call ─► Client.Do ─────────────────────────────► Response ─► Client.Interpret ─────────► Decision
//	                   query.go      joins address and query                statuses.go    StatusTable   or Failure
//	                   headers.go    viewer's facts                         presets.go     its presets
//	                   transport.go  connections                            response.go    headers
//	                   redirects.go  if the table follows them              answer_requirements.go
//	                   errors.go     kinds of failure                       challenge.go   WWW-Authenticate
//	                                                                        alarms.go      what violates the contract
//	                   http_trace.go what went over the wire, for "usher check"
//
// Invariants:
//   - A viewer's parameter or header never replaces one of Usher's or of the config, however it is spelled.
//   - A viewer cannot make a call fail by what they send: controls and size are cut to what HTTP can carry.
//   - No error, alarm or trace holds a credential of the config; no error or alarm holds one of a viewer.
//   - An answer is bounded before it is read.
//   - An invalid header never makes a failure of an answer.
//
// Decided: a 403 that names a target on the backend's own host stays a denial; a 3xx that does is a failure, since its
// status says nothing about the viewer. require_header and require_body concern allowing answers alone.
//
// Refused: HTTP/2 and proxies towards a middleware (see newTransport); retries (see package chain).
package httpbackend
