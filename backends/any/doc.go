// Package anyof asks several backends at once, and the first yes wins: the kind "any". The folder has the kind's name;
// the package has not, because it would hide Go's own any from whoever imports it.
//
//	backends:
//	  ministra: { kind: ministra, url: "http://portal.example.com/stalker_portal" }
//	  smarty:   { kind: smarty, url: "http://smarty.example.com" }
//	  both:     { kind: any, backends: [ministra, smarty], on_failure: allow }
//
// It does what Cesbo's auth-proxy does for Astra (its code, github.com/cesbo/auth-proxy), and Flussonic with several
// HTTP backends (its documentation and vendors' examples; whose headers count there when two allow is not public).
// Nothing is to be set up at the portals. What counts is the first of these that anybody gave:
//
//	a yes                   the first to come; the other calls are cancelled
//	an overload             the viewer is asked to come back, since that member could still say yes
//	a network failure       refused, reset, timeout, breaker open: on_failure of the joining backend decides
//	any other failure       a status, a malformed answer, a panic: on_failure too
//	a no                    of several the first in the order of `backends`: its reason, its redirect or none
//	no opinion              of all: for whoever joins this backend to decide; alone it is a no
//
// So a no of one beside a failure of another follows on_failure: nobody knows whom the failed one would have let in.
// Auth-proxy denies then, which is on_failure: deny.
//
// Invariants:
//   - Whatever a viewer or a flood adds to the members' answers weighs no more than a no. A network failure lets in
//     whom on_failure says, also beside a no, so a status beside it wins nothing; an overload lets in nobody.
//   - Nobody waits for a call that goes on after it was cancelled. It has a copy of the question, and a member with
//     4096 such calls is not asked until some end.
//   - A yes holds as long as its member says, else as long as that member's validity. Nothing of another's yes counts.
//
// Decided: a re-check asks all again, so members see re-checks of viewers whom another let in, and one's yes replaces
// another's, user and limit included. The caller hears that the question is out (Asking) once no member has it queued,
// because time in a queue of ours must not look like a backend that hangs. A member that hangs beside one that says yes
// is cancelled each time, so its breaker does not find out, and need not. A viewer who watches, and whose words make a
// member fail, keeps what he has, as with one backend alone; `statuses` of that member can make a no of it.
//
// Refused: asking one after the other, which is the kind rules; mixing the headers of several answers, as auth-proxy
// relays none.
package anyof
