// Package strict requests a URL again and again as the strictest clients do, to count what a restart of the server fails. Players and
// browsers repeat a request whose connection broke; these clients never do.
//
// Begin with [Start].
//
// Invariants:
//   - A request is served with status 200 and its whole body. Any other end of it is a failure, also a refused connection.
//   - A server may close a connection between two requests. That is no failure if the client has seen it before it sends.
//   - HTTP/2 sends again only what the server says it has not processed: by GOAWAY or REFUSED_STREAM.
//   - What is in flight at Stop is waited for and counted.
//
// Decided: HTTP/1.1 is written here, because net/http repeats a GET that a kept connection failed.
package strict
