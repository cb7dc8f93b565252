// Package gateway is the HTTP side: it finds the route of a request, says who the viewer is, reads the decision on him
// and answers with media.
//
//	View ─► route ─► ticket or credentials ─► session's decision ─► playlist (spliced) or media (cached) ─► Answer
//
// The core, [Edge], is a function of a small request view and gives a small answer; it knows no HTTP server.
// nethttp.go is its adapter to net/http, server.go the life of a listener.
//
// Invariants:
//   - Only playlists open sessions. Anything else needs a ticket, and without one costs nobody a call, in an outage too.
//   - A ticket is verified before anything is looked up; a forged one costs one MAC.
//   - A passing trouble is never a 4xx on a media route, since players give up for good on those.
//   - Neither ticket nor credentials reach an origin; an origin's address never comes from the viewer.
//
// Decided: paths with dot segments or encoded slashes are refused, not cleaned, since no player sends them. Refused:
// redirects that mint a ticket (browsers ask for the original URL at each reload), and a ticket that expires under a
// player (a media playlist below one is reloaded for days).
package gateway
