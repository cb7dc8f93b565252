// Package anyof checks a viewer with several backends at once, and the first allowed decision wins: the kind "any".
// The folder carries the kind's name. The package does not, because it would shadow Go's own any where it is imported.
//
//	backends:
//	  ministra: { kind: ministra, address: "http://portal.example.com/stalker_portal" }
//	  smarty:   { kind: smarty, address: "http://smarty.example.com" }
//	  both:     { kind: any, backends: [ministra, smarty], on_failure: allow }
//
// It does what Cesbo's auth-proxy does for Astra (its code, github.com/cesbo/auth-proxy), and Flussonic with several
// HTTP backends (its documentation and vendors' examples; whose headers count there when two allow is not public).
// Nothing has to be configured at the portals. The highest of these results decides:
//
//	allowed                 the first to arrive; the other calls are canceled
//	overload                the viewer retries later, since that member could still allow them
//	network failure         refused, reset, timeout, breaker open: on_failure of the composite backend decides
//	other failure           a status, a malformed response, a panic: on_failure too
//	denied                  of several, the first in the order of `backends`: its reason, and its redirect or none; and the first
//	                        challenge of any member, since credentials for it could still allow the viewer
//	no opinion              from all: the backend that contains this one decides; a standalone backend denies
//
// So one member's denial beside another member's failure follows on_failure: the failed member might have allowed the
// viewer. Auth-proxy denies then, which is on_failure: deny. deploy/backends/any.yaml lists what else differs from it.
//
// Invariants:
//   - What a viewer or a flood adds to the members' results ranks no higher than a denial. A network failure allows only
//     by on_failure, also beside a denial, so a status beside it gains nothing; an overload allows no viewer.
//   - No check waits for a call that keeps running after it was canceled. Such a call has its own copy of the request,
//     and a member with 4096 such calls gets no more checks until some of them end.
//   - An allowed decision is valid as long as its member says, else for that member's configured validity. Nothing of
//     another member's decision is added to it.
//
// Decided: a re-check goes to all members, so members see re-checks of viewers that another member allowed, and one
// member's decision replaces another's, user and limit included. The caller's OnSent is called once no member has the
// request queued, because time in our own queue must not look like a backend that hangs. A member that hangs while
// another allows is canceled each time, so its breaker stays closed, which costs nothing. A playing viewer whose
// parameters make a member fail keeps their decision, as with a single backend; `statuses` of that member can turn the
// failure into a denial.
//
// Refused: checking one member after the other, which is the kind rules; merging the headers of several responses,
// since auth-proxy relays none.
package anyof
