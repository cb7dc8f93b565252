// Package gateway is the HTTP side: it finds the route of a request, says who the viewer is, reads the decision on him
// and answers with media.
//
//	View ─► route ─► ticket or credentials ─► session's decision ─► playlist (spliced) or media (cached) ─► Answer
//
// The core, [Gateway], is a function of a small request view and gives a small answer; it knows no HTTP server.
// nethttp.go is its adapter to net/http, server.go the life of a listener.
//
// An edge is a media server of somebody else that asks whether its viewers may watch: door.go is where it asks, edge_ask.go
// how it is answered, recognition.go how requests without credentials are told to be a viewer's. Packages authz and
// extauthz know the edges' words.
//
// Invariants:
//   - Only playlists open sessions. Anything else needs a ticket, and without one costs nobody a call, in an outage too.
//   - A ticket is verified before anything is looked up; a forged one costs one MAC a place that fits.
//   - A passing trouble is never a 4xx on a media route, since players give up for good on those.
//   - Neither ticket nor credentials reach an origin; an origin's address never comes from the viewer.
//
// Decided: paths with dot segments, encoded slashes or encoded letters are refused, not cleaned, since no player sends
// them. A session's id is a hash of decoded pairs, since a player that adds a directive writes the whole query anew. What
// a playlist listed is the origin's parameter, and nobody's credential; what no playlist listed never reaches the origin,
// but for URIs that our tickets lead to while the node has seen no playlist that could list them. Where places of a route
// overlap, the ticket tells which one is meant. Answers carry CORS fields whatever they are, since players give up on a
// 503 that they cannot read.
//
// At an edge the channel, the path and the viewer's address are the edge's word, so only listed networks are heard. The
// memory of who looks like whom is the node's own, and lasts as long as its sessions.
//
// Refused: redirects that mint a ticket (browsers ask for the original URL at each reload), and a ticket that expires
// under a player (a media playlist below one is reloaded for days).
package gateway
