// Package gateway is the HTTP side: it finds the route of a request, identifies the viewer, reads the decision on them
// and answers with media.
//
//	Request ─► route ─► ticket or credentials ─► session's decision ─► playlist (spliced) or media (cached) ─► Response
//
// Entry points: [Gateway.Serve] answers a viewer or an edge, in gateway.go. [Gateway.Check] answers an edge that asks by
// gRPC, in edge_check.go. Neither knows an HTTP server: [Handler] adapts them to net/http (nethttp.go), and [Server] runs
// the listener (server.go).
//
// Package edge holds the endpoints and dialects of edges, package hls rewrites playlists, package origin fetches and
// caches, package urlpath says which paths may be routed, package ticket signs tickets, and package variants bounds
// the sessions that one player opens by a changing parameter.
//
// Invariants:
//   - Only playlists open sessions. Every other request needs a ticket; without one it costs no backend a call, in an
//     outage too.
//   - A ticket is verified before any lookup. A forged one costs one MAC for each mapping that matches the path.
//   - A ticket opens the folder of the entry that its viewer opened, and what is below it; anything else only where a
//     playlist lists it.
//   - A session is one address's, unless its route shares sessions. So no decision about one address is used at another,
//     and no ticket brings one along.
//   - A fault that passes is never a 4xx on a media route, because players give up for good on those.
//   - Neither tickets nor credentials reach an origin. An origin's address never comes from the viewer.
//   - An edge reports the channel, the path and the viewer's address, so only listed networks may ask.
//
// Decided: paths with dot segments, encoded slashes or letters, or look-alikes of them are refused and not cleaned,
// because no player makes them up; package urlpath says which. Where a playlist lists such a path, its URI gets a ticket
// of that path alone, byte for byte. A session's id is computed of its viewer's group and address (identity.go). The group
// is computed again of a ticket, so that a ticket at another address leads to the session that the same credentials open
// there, without memory or store: a player that reloads the playlist by a token and media by a ticket has one session an
// address. At an edge, credentials that play at another address open a session on any path, because a viewer who has moved
// may ask for a segment first. The group is a hash of decoded pairs, because a player that adds a directive rewrites the
// whole query. A parameter that a playlist listed is the origin's and never a credential. A parameter that no playlist
// listed never reaches the origin, except on URIs with our ticket until the node has seen a playlist that could list it.
// Where patterns of a route overlap, the ticket decides which one applies. A URI that a playlist lists outside the entry's
// folder gets a ticket of its own folder, with the session of the playlist's ticket: it is remembered nowhere, and the
// same on every node. If that folder is above the entry's it is opened alone, because other
// entries are below it. A ticket says how deep its folder is, so that it costs one MAC however deep the path is. An edge
// shows no playlists, so that nothing outside the entry's folder is open there. All responses have CORS fields, because
// players give up on a 503 that they cannot read. A denial with a challenge is 401 where credentials would open a
// session, and 403 elsewhere. The answer to a challenge is another session, so that it never waits until the denial is
// forgotten.
//
// Refused: networks (/24, /48) in place of addresses, because a backend that decides by address is asked about one of them
// only; a ticket of its own for a sibling, because the viewer's URIs would change when they move; redirects that create a
// ticket, because browsers ask for the original URL at each reload; and tickets that
// expire during playback, because a player reloads a media playlist below one ticket for days.
package gateway
