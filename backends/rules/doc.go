// Package rules decides by an ordered list, as Alta and Flussonic do: allow, deny, pass on, or check with another
// backend. Nothing has to be configured at the portals.
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
// Flussonic's (auth_backend in its documentation): token, address, agent, for each first the allowed ones, then all
// backends at once, here joined by the kind any, then "allow default" or denial. Whether a 5xx leads to its default is
// not certain:
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
// A rule matches if each of its conditions is met by one of the condition's entries. In channels and user_agents '*' is
// any text, '/' included. `action` allows, denies or passes. `backend` names a backend: if it allows, the rule allows, and if it
// denies, the rule denies, redirect included, unless on_allow or on_deny
// says pass; its failure fails the whole check (on_failure: fail), or is passed on, or denies; without an opinion the
// next rule follows. default: pass is no opinion: the backend that contains this one decides; a standalone one denies.
//
// Invariants:
//   - An overload ends the check, and on_failure: pass applies only where there is no answer at all
//     ([backends.Failure.IsTransport], an open breaker). So neither a flood nor a request that is answered with an error
//     leads past a rule. One that makes the backend hang or break off does, as an outage would.
//   - Once a failure was passed on, the decision of a rule or the default is a fallback (source fail-open): a viewer with
//     a decision keeps it instead of being allowed anew, an unknown viewer is allowed, and all are re-checked soon.
//   - What the list decides without an answer holds in an outage too, and while a backend hangs, whatever the outage policy says. If
//     one of several may be the one that hangs, the outage policy decides until the check ends.
//   - Host, Referer and User-Agent are viewer input: they stop only viewers who do not forge them.
//
// Decided: the caller's OnSent is called with the last rule that may call a backend, because time in a later one's queue
// must not look like a backend that hangs; answer_deadline covers the whole list. A re-check runs the whole list. An
// allowed decision that was passed on leaves no trace: the deciding backend sets user, limit and validity. The first challenge
// that was passed on comes with the default and with another backend's denial; the denial of a rule without one has none. Every
// token of a query counts, as middlewares differ in the one they read. `action: allow` without a condition is rejected: most
// likely its conditions got lost, and default: allow does the same.
//
// Refused: countries, which need a GeoIP file; regular expressions, since '*' is enough; negated conditions.
package rules
