// Package enforcement serves operators who migrate a route: with enforce: false it refuses nobody, and says who would have
// been refused and why.
//
//	identify, authorize ─► a refusal ─► [Enforced]:   the viewer gets it
//	                                    [Unenforced]: one WARN a session and reason, one more in the counter, and the media
//
// Invariants:
//   - The zero [Mode] enforces, so that no forgotten setting opens a route.
//   - A session is logged and counted once for each reason, however many requests it makes.
//   - Memory is bounded; beyond the bound a session may be logged and counted again.
//   - The reasons are a closed set, so viewers cannot create series.
//
// Decided: bans, kicks and stream limits are not enforced either. Nobody is refused, without an exception to remember.
// Decided: viewers who are refused get no ticket of a session, so that none of them plays on once the route is enforced. Those who
// could not be asked about get one, so that they do.
// Refused: answering publishers with yes, because anyone could send a stream. So an edge gets no yes to a check that may be a
// publisher's and cannot be read, nor to a viewer's method that may write.
package enforcement
