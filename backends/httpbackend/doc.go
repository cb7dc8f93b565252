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
//	                   transport.go  kept connections, their age;           response.go    headers
//	                                 package plainhttp, without TLS
//	                   dialer.go     where connections may lead             signature/     what proves that a request is Usher's
//	                   exchange.go   redirects; header now, body later      redirect_target.go  whom a redirect is for
//	                   errors.go     kinds of failure, and what was sent    answer_requirements.go, broken_page.go
//	                   http_trace.go what went over the wire                challenge.go   WWW-Authenticate, and refusals of Usher itself
//	                   redactor.go   what of that is a secret               alarms.go      what violates the contract
//
// Invariants:
//
//   - A viewer's parameter or header never replaces one of Usher's or of the config, however it is spelled.
//
//   - A viewer cannot make a call fail by what they send: controls and size are cut to what HTTP can carry.
//
//   - No error, alarm or trace holds a credential of the config; no error or alarm holds one of a viewer.
//
//   - An answer is bounded before it is read, in bytes and in time, and so is what is left of it after the decision.
//
//   - The header of a denial or a failure decides. Only an allowing answer waits for its body.
//
//   - A header that cannot be read never makes a failure of an answer, but for a Location where every redirect is one.
//
//   - A followed redirect leads into no private network but that of the address itself or one that the config allows,
//     whatever its name resolves to, and takes along no header of the config, no signature and no client certificate.
//
//   - A kept connection gets no call beyond max_connection_age. After one of them has failed, the others are let go.
//
// Decided: a certificate that has expired is a warning and no error, at the start as well, because the outage policy knows
// what to do and a node that does not start does not. Where address may be is not limited: an operator wrote it.
//
// Decided: a redirect to media or to another authority denies and redirects; one that is about the check itself (its own path
// elsewhere, https, a page of the backend's own, or that path on another host with a parameter of the address or where most answers
// of a minute have it) is a failure, since it says nothing about the viewer. The one with a parameter of the address, which may be a
// secret, reaches no viewer whatever the config says. Refused: to search any other target for values of the config, since a site's
// name is in many; to take most answers alone for a move, since where most viewers are refused most get the promo. Beside 401 and 403
// the status stands. A viewer gets the target as sent. One that is too long or not printable ASCII means the same, but is sent to
// nobody.
//
// Decided: a 401 with a challenge speaks of the Authorization that was sent (RFC 9110 §15.5.2). Where the config sets it, that is
// Usher's own, and a viewer's never arrives: the viewer is not asked for one, and the answer is a failure that may be a denial, with
// an alarm. A 407 is read alike. A preset that takes every status but 200 for a denial takes these so too, and statuses wins.
//
// Decided: an allowing answer waits a tenth of the time left for the beginning of a body that is no picture or other media, because
// what a page says of an error can shorten its validity only before the decision; with broken_page: failure it waits for the first
// byte. What is declared as JSON and begins as JSON is no page, whatever it speaks of. A page in an answer without a yes is nothing
// new.
//
// Decided: bytes of 0x80 and above in a viewer's query stay as they came, although RFC 3986 has none. net/http takes and sends
// them, players do send them, and a middleware that signs or compares the raw query would see another one were they escaped. No
// server reads the end of a line, a space or a separator in them.
//
// Decided: calls without TLS have a transport of their own (package plainhttp), since most middlewares are in the operator's
// network and each opening is one call. Calls with TLS, and those to where a redirect leads, have net/http's.
//
// Refused: HTTP/2 and proxies towards a middleware (see newTransport); retries (see package chain).
package httpbackend
