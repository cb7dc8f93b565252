// Package admission says who may open a session when not everybody can, because too many want to or memory runs out. It has no
// clock and does no I/O: callers say what time it is.
//
//	ticket ──────────────────────────────────────────────► opens
//	allowed before ─► rates of address, network, node ───► opens
//	stranger ───────► denial budget of network and node
//	                 ─► rates, as far as a share of them ─► opens, behind the others
//
// [Gate] is the whole of it, [Rate] one bound, [Known] remembers who was allowed before.
//
// Invariants:
//   - A viewer whose session this node has passes no gate: whatever is shed, who plays goes on.
//   - Strangers use at most a share of what is saved up of a rate. The rest is for viewers whom something speaks for, so that a
//     flood of strangers, who take all that is left, keeps none of them out.
//   - A stranger draws on the denial budget until a backend allows them. So new customers cost nothing in the end, and what is
//     bounded is how many tokens that nobody has a backend is asked about.
//   - Everything has a size that does not grow: rates are tables of cells, and what is known a table of slots. Keys that share a
//     cell share its rate. Each process places keys in cells by a seed of its own, so that no viewer can choose an address that
//     shares the cell of another.
//
// Decided: a network is an IPv4 /24 or an IPv6 /48, what one customer of a hosting company or one small provider has. Behind a
// carrier's NAT a /24 holds a hundred thousand subscribers. That is survivable, because only strangers meet the denial budget, and
// only those whom the backend denies use it up: at its default 750 devices of a network with tokens that ended may retry for ever
// before a new customer of that network has to try twice, since a denial is remembered for denial_ttl. Viewers who were allowed
// before, or have a ticket, do not notice.
//
// Decided: strangers of a network without a recent denial go before those of one with. In a flood from many networks a new
// customer is mostly at none of them.
//
// Decided: where tokens live only for a while (token_life), or viewers show none, their address stands for them.
//
// Refused: a plain rate for strangers. One that a middleware survives turns new customers away on the evening of a match; one that
// lets these in lets a flood through. Blocking addresses for a time, as fail2ban does: behind a NAT it hits the wrong ones.
package admission
