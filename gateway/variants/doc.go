// Package variants finds players that open one session after the other, because they add a parameter to the playlist's URL
// whose value changes at each reload. Such a parameter looks like a credential, so each value costs the middleware a call.
//
//	opening ─► Refuses(groups) ─no─► check ─► Opened(groups, decision)
//
// A group is what the openings have in common: subscriber prefix, agent, route, channel, folder, and all parameters but
// one. That one is suspected. An opening belongs to one group for each of its parameters.
//
// Behind the NAT of a carrier many boxes differ in their token alone. What tells them apart from one player that opens
// again and again:
//   - A box keeps using its session after another box has opened one. Such a player never does: what it opened before
//     falls silent at once. So one session that is used after the next one opened clears its group.
//   - The middleware gives boxes different verdicts, or different users. That clears the parameter on its route.
//   - Somebody must tell boxes apart: a parameter that stands alone is all that the middleware has to decide on.
//   - A parameter that the route names as a credential is one.
//
// Invariants: identity never changes. Sessions that are known, and viewers with a ticket, are not looked at. Memory is
// bounded, and what is forgotten refuses nobody.
//
// Decided: each node counts what it opens itself. A balancer that sprays requests over n nodes lets a player open n times
// as many sessions, which is still a bound, and nodes need no messages for it. Edges that keep sessions themselves ask
// once for each, so that nothing shows which of them are used: their viewers are not counted.
package variants
