// Package gateway is the HTTP side: it finds the route of a request, identifies the viewer, reads the decision on them
// and answers with media.
//
//	Request ─► route ─► ticket or credentials ─► session's decision ─► playlist (spliced) or media (cached) ─► Response
//
// Entry points: [Gateway.Serve] answers a viewer or an edge, in gateway.go. [Gateway.Check] answers an edge that asks by
// gRPC, in edge_check.go. Neither knows an HTTP server: package front serves HTTP on the public listener.
//
// Package edge holds the endpoints and dialects of edges, package hls rewrites playlists, package reference seals what they
// say into URIs, package origin fetches and caches, package upstream says which hosts an origin may name, package urlpath says
// which paths may be routed, package ticket signs tickets, and package variants bounds the sessions that one player opens by a
// changing parameter.
//
// What a playlist lists is written plainly where a request for the plain path says everything: it is on the route's own
// origin, in the folder that the ticket opens, a path that the router takes as it is, has no query, and its name shows what the
// tag said of it. Otherwise the URI has a reference (reference.go):
//
//	/~<ticket>/play/a001/~<reference>/seg-17.ts
//	                     └ role, upstream, path and query as listed, variables; valid for this route, channel, folder and name
//
// Invariants:
//   - What begins as a playlist is served as one, rewritten, whatever its URI said. What a reference says is a playlist and is media is
//     served as that.
//   - Only playlists open sessions. Every other request needs a ticket; without one it costs no backend a call, in an
//     outage too.
//   - A ticket is verified before any lookup. A forged one costs one MAC for each mapping that matches the path.
//   - A ticket opens the folder of the entry that its viewer opened, and what is below it; anything else only by a
//     reference, which only a playlist of the channel gives.
//   - Which URIs are served depends on the request and the settings alone, not on what this process has seen. So they are
//     served after a restart, and by every node.
//   - Behind a reference nothing is a credential, and no parameter reaches the origin but directives.
//   - A session is one address's, unless its route shares sessions. So no decision about one address is used at another,
//     and no ticket brings one along.
//   - A fault that passes is never a 4xx on a media route, because players give up for good on those.
//   - Neither tickets nor credentials reach an origin. An origin's address never comes from the viewer.
//   - An edge reports the channel, the path and the viewer's address, so only listed networks may ask.
//
// Decided: paths with dot segments, encoded slashes or letters, or look-alikes of them are refused and not cleaned, because
// no player makes them up; package urlpath says which. Several slashes in a row count as one for the route, and the origin gets
// those behind the channel as they came. Where a playlist lists such a path, its URI gets a reference, with a
// name behind it that nobody reads otherwise. A reference is the same for all viewers of a channel and on all nodes, so
// that playlists below a ticket are byte-identical. It is sealed by the key that signed the viewer's ticket, so that no URI
// changes in a session's life. A variable whose value only the player knows leaves its URI plain. A steering manifest's
// host of a pathway becomes a sealed parameter, because players would take their ticket there. The pathway's own parameters are
// sealed with it: they reach its host, and are no viewer's credentials. A playlist that the manifest gives for a variant keeps its host, as
// its reference says: hls.js adds the pathway's parameters to it too. A session's id is computed
// of its viewer's group and address (identity.go). The group is computed again of a ticket, so that a ticket at another
// address leads to the session that the same credentials open there, without memory or store: a player that reloads the
// playlist by a token and media by a ticket has one session an address. At an edge, credentials that play at another
// address open a session on any path, because a viewer who has moved may ask for a segment first. The group is a hash of
// decoded pairs, because a player that adds a directive rewrites the whole query. Where patterns of a route overlap, the
// ticket decides which one applies. Two routes share a pattern only of media that need no ticket, from one place: the later one
// writes its references below its own path. A playlist that it lists by a path of that pattern is the earlier route's, and
// refused. A ticket says how deep its folder is, so that it costs one MAC however deep the path is. An edge shows no
// playlists, so that nothing outside the entry's folder is open there. All responses have CORS fields, because players give
// up on a 503 that they cannot read. A denial with a challenge is 401 where credentials would open a session, and 403
// elsewhere. The answer to a challenge is another session, so that it never waits until the denial is forgotten.
//
// Decided: behind an edge that asks about each request a viewer who shows nothing is taken as if they showed the ticket that a node has
// stored by their address, player, channel and folder, or by their credentials (edge_match.go). The playlist is answered once the ticket
// is stored, because its segments may be asked of another node a moment later. A look-up that fails refuses nobody for good: 503, which
// nginx gets as 403, unless the request opens a session by itself. A node that remembers only a refused session of the viewer looks for
// another one too. Of several tickets the newest whose session is allowed is taken, and the others are not opened, because that would have
// viewers who have left begin anew, and a viewer wait for all of them.
//
// Decided: a reload makes another gateway, which takes over what the present one has learned (fingerprints of edges, playback ids,
// variants, what was counted and warned of). Requests in flight end in theirs. Refused: one gateway whose settings are replaced,
// because a request could see a route of the old ones and a key of the new ones. No rewriting of a playlist outlives a reload, also if
// the origin has not changed the playlist: it holds tickets' parameters, references sealed by a key, and URIs that fit a bound.
// Refused: to find out by comparing settings which rewritings could, because a reload is rare, and a live playlist changes within
// seconds.
//
// Decided: once a session has played a live playlist, a complete one does not make its media fresh for long, nor its zap timeout. It is most
// often an advertisement's. An archive, or an event that ended, keeps what holds for live playlists until the session ends.
//
// Decided: a low-latency reload has the origin wait only for what its last response lets expect: as far ahead as RFC 8216bis allows, few at
// once of one playlist, and few of one viewer, who may choose among any number of playlists by forward_query. Several viewers of one address
// have a quarter of the connections, because some routes let a viewer be any number of them by their User-Agent. Everything else is answered
// at once, because each is a request to the origin, whose connections all channels share.
// What is listed already is asked for by the directives of the newest version, so that those who are late share a response.
//
// Refused: remembering what playlists list, because another node and this one after a restart do not know it; tickets of
// folders or paths, because a reference says that and more; networks (/24, /48) in place of addresses, because a backend
// that decides by address is asked about one of them only; a ticket of its own for a sibling, because the viewer's URIs
// would change when they move; redirects that create a ticket, because browsers ask for the original URL at each reload;
// tickets that expire during playback, because a player reloads a media playlist below one ticket for days; and cookies for
// a channel with a semicolon in its name beyond the folder of its playlist, because no cookie's path can hold one, and a
// cookie for all channels would be replaced by that of the next such one. There ticket_in: path or query serves: with
// cookies its media play if they are below the playlist's folder, and of several such playlists in one folder the one
// that was opened last.
package gateway
