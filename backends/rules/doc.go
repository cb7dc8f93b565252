// Package rules decides by an ordered list, as Alta and Flussonic do: allow, deny, pass on, or ask another backend.
// Nothing is to be set up at the portals.
//
// Alta's order (its manual, "OTT authorization"): addresses, secure token unless the token does not look like one,
// backend unless it is down, default:
//
//	kind: rules
//	rules:
//	  - { addresses: [192.168.0.0/24], action: allow }
//	  - { addresses: [203.0.113.0/24], action: deny }
//	  - { backend: securetoken }
//	  - { backend: portal, on_failure: pass }
//	default: allow
//
// Flussonic's (auth_backend in its documentation): token, address, agent, each first those let in, then all backends at
// once, here joined by the kind any, then "allow default" or nobody. Whether a 5xx leads to its default is not certain:
//
//	kind: rules
//	rules:
//	  - { tokens: [t-of-a-monitor], action: allow }
//	  - { tokens: [t-of-a-thief], action: deny }
//	  - { addresses: [10.0.0.0/8], action: allow }
//	  - { addresses: [198.51.100.7], action: deny }
//	  - { user_agents: ["SmartTV*"], action: allow }
//	  - { user_agents: ["*bot*"], action: deny }
//	  - { referers: [tv.example.com, "*.tv.example.com"], backend: portals, on_failure: pass }
//	default: deny
//
// A rule applies if each condition that it has is met by one of its entries. `then` says what follows. `ask` names a
// backend: its yes allows and its no denies, redirect and all, unless on_allow or on_deny says pass; its failure is that of
// the whole check (on_failure: fail), or is passed on, or denies; without an opinion the next rule follows.
// default: pass is no opinion: for whoever joins this backend to decide; alone it is a no.
//
// Invariants:
//   - An overload ends the check, and on_failure: pass holds only for failures that no viewer can bring about
//     ([backends.Failure.IsTransport], an open breaker). So neither a flood nor odd words lead past a rule.
//   - Once a failure was passed on, what a rule or the default says is a stopgap (source fail-open): whom somebody has
//     decided on keeps that instead of a yes, who is unknown is let in, and all are asked about again soon.
//   - Host, Referer and User-Agent are the viewer's words: they keep out only who does not know better.
//
// Decided: the caller hears that the question is out (Asking) with the last rule that may ask, because time in a later
// one's queue must not look like a backend that hangs; answer_deadline is for the whole list. A re-check goes through
// the list again. A yes that was passed on leaves nothing behind: who decides names user, limit and validity. Every
// token of a query counts, as middlewares differ in which they take. `then: allow` without a condition is refused: most
// likely its conditions got lost, and default: allow says the same.
//
// Refused: countries, which need a GeoIP file; regular expressions, since '*' is enough; negated conditions.
package rules
