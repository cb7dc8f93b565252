package gateway

import (
	"context"
	"errors"
	"slices"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/ticket"
)

// Matches keep, for all nodes, the tickets of viewers at edges who show none. Keys are keyed hashes of what a viewer's requests have in
// common. They are safe for concurrent use.
type Matches interface {
	// Add keeps the ticket of a session under each of the keys, for a while. If it cannot it does so later.
	Add(ctx context.Context, keys [][16]byte, session backends.SessionID, ticket string)
	// Find returns the tickets under each of the keys, the one added last first. The error says that nobody can tell.
	Find(ctx context.Context, keys [][16]byte) ([][]string, error)
}

// matchByTicket sets the session of a valid ticket in a cookie, and reports whether there is one.
func (g *Gateway) matchByTicket(rc *requestContext) bool {
	if rc.target.route.endpoint.Matching() != edge.MatchByCookie {
		return false
	}
	g.findTicket(rc)
	return rc.hasTicket
}

// matchByCredentials sets the session of the credentials, and reports whether they may open it or it is open. Credentials
// that play at another address may open it on any path: a viewer who has moved asks for a segment first.
func (g *Gateway) matchByCredentials(rc *requestContext) bool {
	if rc.credentials.IsEmpty() {
		return false
	}
	rc.id = g.sessionOfCredentials(rc)
	if rc.canOpenSession() || g.options.Sessions.Find(rc.id) != nil || g.playsElsewhere(rc) {
		return true
	}
	rc.id = backends.SessionID{}
	return false
}

// matchByFingerprint sets the session of the viewer's fingerprint, and reports whether there is one: of the path's folder or
// of one above it. No fingerprint without an address is recorded.
func (g *Gateway) matchByFingerprint(rc *requestContext) bool {
	if rc.target.route.endpoint.Matching() != edge.MatchByAddressAgent {
		return false
	}
	for above := range rc.target.above() {
		if g.matchFingerprintOf(rc, &above, true) {
			return true
		}
	}
	return g.matchFingerprintOf(rc, &rc.target, false)
}

// matchFingerprintOf sets the session of the fingerprint on that target, and reports whether there is one.
func (g *Gateway) matchFingerprintOf(rc *requestContext, t *target, mustAllow bool) bool {
	var ids [edge.MaxSessionsPerFingerprint]backends.SessionID
	id, s := newestAllowed(g.fingerprints.AppendSessions(ids[:0], g.fingerprint(rc, t)), g.options.Sessions.Find)
	if s == nil || mustAllow && s.Decision().Verdict != backends.Allowed {
		return false
	}
	rc.id, rc.credentials, rc.target = id, backends.Credentials{}, *t
	rc.claims = ticket.Claims{ID: id, Ticket: s.Ticket()}
	if t.route.config.OnNewAddress == ShareSession { // where the tag tells the session's addresses apart
		opened := s.Request()
		credentials := opened.Credentials()
		rc.claims.Tag = g.hasher.tag(t.route.sessionPrefix(&credentials, opened.Address))
	}
	return true
}

// fingerprint returns the viewer's fingerprint on a target.
func (g *Gateway) fingerprint(rc *requestContext, t *target) edge.Fingerprint {
	return g.fingerprints.Of(t.route.name, t.channel, t.folder, rc.viewer.address, rc.request.Header.Get("User-Agent"), rc.request.isPublish)
}

// newestAllowed returns the first session that is allowed, else the first live one with a decision, or nil.
func newestAllowed(ids []backends.SessionID, find func(backends.SessionID) session.Handle) (backends.SessionID, session.Handle) {
	var bestID backends.SessionID
	var best session.Handle
	for _, id := range ids {
		s := find(id)
		if s == nil {
			continue
		}
		d := s.Decision()
		if d != nil && d.Verdict == backends.Allowed {
			return id, s
		}
		if best == nil && d != nil {
			bestID, best = id, s
		}
	}
	return bestID, best
}

// recordMatch remembers which session the viewer's address and player play. isNews: other nodes should be told, by the key.
func (g *Gateway) recordMatch(rc *requestContext) (key [16]byte, isNews bool) {
	if !rc.viewer.address.IsValid() || !g.record(rc, g.fingerprint(rc, &rc.target)) {
		return key, false
	}
	return g.hasher.matchKey(&rc.target, rc.viewer.address, rc.request), true
}

// recordGroup remembers which session plays with the viewer's credentials, if a playlist shows them. Beside a ticket they may be others
// than those that were checked. isNews: other nodes should be told, by the key.
func (g *Gateway) recordGroup(rc *requestContext) (key [16]byte, isNews bool) {
	if rc.credentials.IsEmpty() || !rc.isPlaylist || rc.target.route.endpoint.Dialect().KeepsSessions() {
		return key, false
	}
	group := g.groupOf(rc)
	if rc.hasTicket && (rc.session == nil || rc.session.Request().Group != group) || !g.record(rc, g.fingerprints.OfGroup(group)) {
		return key, false
	}
	return g.hasher.groupKey(group), true
}

// record remembers a fingerprint of the viewer's session, and reports whether there are other nodes that should be told.
func (g *Gateway) record(rc *requestContext, f edge.Fingerprint) bool {
	return g.fingerprints.Record(f, rc.id, rc.session.Ticket().Opened, rc.now) && g.options.Matches != nil
}

// share tells the other nodes of the viewer's ticket before the viewer is answered, who may ask another one next.
func (g *Gateway) share(ctx context.Context, rc *requestContext, keys [][16]byte) {
	if len(keys) == 0 {
		return
	}
	opened := rc.session.Request()
	credentials := opened.Credentials()
	g.options.Matches.Add(ctx, keys, rc.id, g.signer.Sign(ticket.Claims{
		ID: rc.id, Ticket: rc.session.Ticket(), Tag: g.hasher.tag(rc.target.route.sessionPrefix(&credentials, opened.Address)),
	}, rc.target.scope()))
}

// playsElsewhere reports whether the node has seen the same credentials play at another address, in the path's folder or one
// above it. Then it sets the session that they open here.
func (g *Gateway) playsElsewhere(rc *requestContext) bool {
	if rc.target.route.config.OnNewAddress == RefuseNewAddress {
		return false
	}
	plays := func(t *target) bool {
		var ids [edge.MaxSessionsPerFingerprint]backends.SessionID
		group := g.fingerprints.OfGroup(g.hasher.groupID(t, &rc.credentials, rc.request))
		_, s := newestAllowed(g.fingerprints.AppendSessions(ids[:0], group), g.options.Sessions.Find)
		return s != nil && s.Decision().Verdict == backends.Allowed
	}
	for above := range rc.target.above() {
		if plays(&above) {
			rc.target = above
			g.useCredentials(rc)
			return true
		}
	}
	return plays(&rc.target)
}

// errUnknowable is what viewers are told whose ticket cannot be looked up.
var errUnknowable = errors.New("it cannot be found out now whose request this is; try again")

// sharedMatch is where nodes share the ticket of a viewer who shows none.
type sharedMatch struct {
	target  target
	isGroup bool // of the credentials, else of the address and player
}

// recallEntry has a playlist in a folder belong to the session of the entry above it that another node has opened with the same
// credentials, as openSessionAbove does with those of this node. It returns an error only if the edge disconnected.
func (g *Gateway) recallEntry(ctx context.Context, rc *requestContext) error {
	if g.options.Matches == nil || rc.target.depth == 0 || rc.target.route.endpoint.Dialect().KeepsSessions() || g.options.Sessions.Find(rc.id) != nil {
		return nil
	}
	var entries []target
	var keys [][16]byte
	for above := range rc.target.above() {
		entries = append(entries, above)
		keys = append(keys, g.hasher.groupKey(g.hasher.groupID(&above, &rc.credentials, rc.request)))
	}
	tickets, err := g.options.Matches.Find(ctx, keys)
	if err != nil { // then it opens a session of its own
		return context.Cause(ctx)
	}
	if i := slices.IndexFunc(tickets, func(t []string) bool { return len(t) > 0 }); i >= 0 {
		rc.target = entries[i]
		g.useCredentials(rc)
	}
	return nil
}

// recall finds a viewer whom another node knows, or this one did before it was started again, and reports whether it did. An error says
// that nobody can tell.
func (g *Gateway) recall(ctx context.Context, rc *requestContext, isComplete bool) (isFound bool, err error) {
	if g.options.Matches == nil || rc.target.route.endpoint.Dialect().KeepsSessions() {
		return false, nil
	}
	matches, keys := g.sharedMatches(rc, isComplete)
	if len(keys) == 0 {
		return false, nil
	}
	address := uint64(g.fingerprints.OfAddress(rc.viewer.address))
	if err := g.lookUps.Begin(address, len(keys), rc.now); err != nil {
		return false, err
	}
	tickets, err := g.options.Matches.Find(ctx, keys)
	if err != nil && ctx.Err() == nil {
		err = errUnknowable
	}
	if err != nil || slices.ContainsFunc(tickets, func(t []string) bool { return len(t) > 0 }) {
		g.lookUps.Found(address, len(keys), rc.now)
	}
	for i := range tickets {
		switch {
		case len(tickets[i]) == 0:
		case matches[i].isGroup:
			rc.target = matches[i].target
			g.useCredentials(rc)
			return true, nil
		default:
			err = errors.Join(err, g.openShared(ctx, rc, &matches[i].target, tickets[i]))
		}
	}
	return g.matchByFingerprint(rc), err
}

// sharedMatches returns where nodes may share a viewer's ticket, and by which keys: as this node looks for them itself.
func (g *Gateway) sharedMatches(rc *requestContext, isComplete bool) (matches []sharedMatch, keys [][16]byte) {
	r := rc.target.route
	add := func(t target) {
		if isComplete && !rc.credentials.IsEmpty() && r.config.OnNewAddress != RefuseNewAddress {
			matches = append(matches, sharedMatch{t, true})
			keys = append(keys, g.hasher.groupKey(g.hasher.groupID(&t, &rc.credentials, rc.request)))
		}
		if r.endpoint.Matching() == edge.MatchByAddressAgent && rc.viewer.address.IsValid() {
			matches = append(matches, sharedMatch{t, false})
			keys = append(keys, g.hasher.matchKey(&t, rc.viewer.address, rc.request))
		}
	}
	for above := range rc.target.above() {
		add(above)
	}
	add(rc.target)
	return matches, keys
}

// openShared opens the sessions of tickets that other nodes have shared of a viewer on a target, and remembers them, the first as the one
// that was used last.
func (g *Gateway) openShared(ctx context.Context, rc *requestContext, t *target, tickets []string) error {
	for _, text := range slices.Backward(tickets) {
		claims, isValid := g.signer.Verify(text, t.scope())
		if !isValid {
			continue
		}
		shared := new(requestContext)
		*shared = *rc
		shared.target, shared.id, shared.claims, shared.credentials = *t, claims.ID, claims, backends.Credentials{}
		s, err := g.options.Sessions.Open(ctx, g.openRequest(shared, false))
		if err != nil {
			return err
		}
		g.fingerprints.Record(g.fingerprint(rc, t), claims.ID, s.Ticket().Opened, rc.now)
	}
	return nil
}
