package gateway

import (
	"context"
	"errors"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/ticket"
)

// Matches keep, for all nodes, the tickets of viewers at edges who show none. Keys are keyed hashes of what a viewer's requests have in
// common. They are safe for concurrent use.
type Matches interface {
	// Add keeps the ticket of a session under each of the keys, for a while, in place of one that was opened earlier. If it cannot it does
	// so later.
	Add(ctx context.Context, keys [][16]byte, session backends.SessionID, opened time.Time, ticket string)
	// Find returns the tickets under each of the keys, the one added last first. The error says that there may be more.
	Find(ctx context.Context, keys [][16]byte) ([][]string, error)
	// LostAt returns since when what was added before is not found any more; zero: all is. It is called for each question of an edge.
	LostAt() time.Time
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

// matchByFingerprint sets the allowed session of the viewer's fingerprint, and reports whether there is one: of the path's folder
// or of one above it. No fingerprint without an address is recorded.
func (g *Gateway) matchByFingerprint(rc *requestContext) bool {
	if rc.target.route.endpoint.Matching() != edge.MatchByAddressAgent {
		return false
	}
	for above := range rc.target.above() {
		if g.matchFingerprintOf(rc, &above) {
			return true
		}
	}
	return g.matchFingerprintOf(rc, &rc.target)
}

// matchFingerprintOf sets the allowed session of the fingerprint on that target, and reports whether there is one.
func (g *Gateway) matchFingerprintOf(rc *requestContext, t *target) bool {
	id, s := g.newestOf(g.fingerprint(rc, t))
	if !isAllowed(s) {
		return false
	}
	g.match(rc, t, id, s)
	return true
}

// matchRefused sets the refused session of the viewer's fingerprint on the path's own folder, and reports whether there is one.
func (g *Gateway) matchRefused(rc *requestContext) bool {
	if rc.target.route.endpoint.Matching() != edge.MatchByAddressAgent {
		return false
	}
	id, s := g.newestOf(g.fingerprint(rc, &rc.target))
	if s == nil {
		return false
	}
	g.match(rc, &rc.target, id, s)
	return true
}

// match has a request that shows nothing belong to a session on a target.
func (g *Gateway) match(rc *requestContext, t *target, id backends.SessionID, s session.Handle) {
	rc.id, rc.credentials, rc.target = id, backends.Credentials{}, *t
	rc.claims = ticket.Claims{ID: id, Ticket: s.Ticket()}
	if t.route.config.OnNewAddress == ShareSession { // where the tag tells the session's addresses apart
		opened := s.Request()
		credentials := opened.Credentials()
		rc.claims.Tag = g.hasher.tag(t.route.sessionPrefix(&credentials, opened.Address))
	}
}

// fingerprint returns the viewer's fingerprint on a target.
func (g *Gateway) fingerprint(rc *requestContext, t *target) edge.Fingerprint {
	return g.fingerprints.Of(t.route.name, t.channel, t.folder, rc.viewer.address, rc.request.Header.Get("User-Agent"), rc.request.isPublish)
}

// newestOf returns the best of the sessions that were used with a fingerprint.
func (g *Gateway) newestOf(f edge.Fingerprint) (backends.SessionID, session.Handle) {
	var ids [edge.MaxSessionsPerFingerprint]backends.SessionID
	return newestAllowed(g.fingerprints.AppendSessions(ids[:0], f), g.options.Sessions.Find)
}

// newestAllowed returns the first session that is allowed, else the first live one with a decision, or nil.
func newestAllowed(ids []backends.SessionID, find func(backends.SessionID) session.Handle) (bestID backends.SessionID, best session.Handle) {
	for _, id := range ids {
		s := find(id)
		switch {
		case isAllowed(s):
			return id, s
		case s != nil && best == nil && s.Decision() != nil:
			bestID, best = id, s
		}
	}
	return bestID, best
}

// isAllowed reports whether there is a session that is allowed.
func isAllowed(s session.Handle) bool {
	if s == nil {
		return false
	}
	d := s.Decision()
	return d != nil && d.Verdict == backends.Allowed
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
	if g.options.Matches == nil {
		g.fingerprints.Record(f, rc.id, rc.session.Ticket().Opened, time.Time{}, rc.now)
		return false
	}
	return g.fingerprints.Record(f, rc.id, rc.session.Ticket().Opened, g.options.Matches.LostAt(), rc.now)
}

// share tells the other nodes of the viewer's ticket before the viewer is answered, who may ask another one next.
func (g *Gateway) share(ctx context.Context, rc *requestContext, keys [][16]byte) {
	if len(keys) == 0 {
		return
	}
	opened := rc.session.Request()
	credentials := opened.Credentials()
	held := rc.session.Ticket()
	g.options.Matches.Add(ctx, keys, rc.id, held.Opened, g.signer.Sign(ticket.Claims{
		ID: rc.id, Ticket: held, Tag: g.hasher.tag(rc.target.route.sessionPrefix(&credentials, opened.Address)),
	}, rc.target.scope()))
}

// playsElsewhere reports whether the node has seen the same credentials play at another address, in the path's folder or one
// above it. Then it sets the session that they open here.
func (g *Gateway) playsElsewhere(rc *requestContext) bool {
	if rc.target.route.config.OnNewAddress == RefuseNewAddress {
		return false
	}
	plays := func(t *target) bool {
		_, s := g.newestOf(g.fingerprints.OfGroup(g.hasher.groupID(t, &rc.credentials, rc.request)))
		return isAllowed(s)
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

// maxOpenedForOne is how many sessions a node opens to find that of a viewer who shows nothing. Most often the first is theirs, and
// allowed; those that were opened in vain are known when the viewer asks again.
const maxOpenedForOne = 3

// sharedMatch is where nodes share the ticket of a viewer who shows none.
type sharedMatch struct {
	target  target
	isGroup bool // of the credentials, else of the address and player
	key     [16]byte
}

// recallEntry has a playlist in a folder belong to the session of the entry above it that another node has opened with the same
// credentials, as openSessionAbove does with those of this node. If nobody can tell, it opens a session of its own. It returns an error
// only if the edge disconnected.
func (g *Gateway) recallEntry(ctx context.Context, rc *requestContext) error {
	if g.options.Matches == nil || rc.target.depth == 0 || rc.target.route.endpoint.Dialect().KeepsSessions() || g.options.Sessions.Find(rc.id) != nil {
		return nil
	}
	var entries []sharedMatch
	for above := range rc.target.above() {
		entries = append(entries, g.groupMatch(rc, &above))
	}
	_, _ = g.lookUp(ctx, rc, entries, true)
	return context.Cause(ctx)
}

// recall finds a viewer whom another node knows, or this one did before it was started again, and reports whether it did. An error says
// that nobody can tell.
func (g *Gateway) recall(ctx context.Context, rc *requestContext, isComplete bool) (isFound bool, err error) {
	if g.options.Matches == nil || rc.target.route.endpoint.Dialect().KeepsSessions() {
		return false, nil
	}
	_, refused := g.newestOf(g.fingerprint(rc, &rc.target))
	return g.lookUp(ctx, rc, g.sharedMatches(rc, isComplete), refused != nil)
}

// sharedMatches returns where nodes may share a viewer's ticket: as this node looks for them itself.
func (g *Gateway) sharedMatches(rc *requestContext, isComplete bool) (matches []sharedMatch) {
	r := rc.target.route
	add := func(t target) {
		if isComplete && !rc.credentials.IsEmpty() && r.config.OnNewAddress != RefuseNewAddress {
			matches = append(matches, g.groupMatch(rc, &t))
		}
		if r.endpoint.Matching() == edge.MatchByAddressAgent && rc.viewer.address.IsValid() {
			matches = append(matches, sharedMatch{t, false, g.hasher.matchKey(&t, rc.viewer.address, rc.request)})
		}
	}
	for above := range rc.target.above() {
		add(above)
	}
	add(rc.target)
	return matches
}

// groupMatch returns where nodes share the ticket of the viewers who show the same credentials on a target.
func (g *Gateway) groupMatch(rc *requestContext, t *target) sharedMatch {
	return sharedMatch{*t, true, g.hasher.groupKey(g.hasher.groupID(t, &rc.credentials, rc.request))}
}

// lookUp has a request belong to the first match of which a node has shared a ticket that is good for something, and reports whether
// there is one. isSpare: it may do without. An error says that nobody can tell.
func (g *Gateway) lookUp(ctx context.Context, rc *requestContext, matches []sharedMatch, isSpare bool) (isFound bool, err error) {
	if len(matches) == 0 {
		return false, nil
	}
	address := uint64(g.fingerprints.OfAddress(rc.viewer.address))
	if err := g.lookUps.Begin(address, len(matches), isSpare, rc.now); err != nil {
		return false, err
	}
	keys := make([][16]byte, len(matches))
	for i := range matches {
		keys[i] = matches[i].key
	}
	tickets, err := g.options.Matches.Find(ctx, keys)
	hasFailed := err != nil
	if hasFailed && ctx.Err() == nil {
		err = errUnknowable
	}
	numOpened := 0
	for i := 0; i < len(tickets) && !isFound; i++ {
		var failed error
		isFound, failed = g.takeShared(ctx, rc, &matches[i], tickets[i], &numOpened)
		err = errors.Join(err, failed)
	}
	if isFound || hasFailed {
		g.lookUps.Found(address, len(matches), rc.now)
	}
	if isFound {
		return true, nil
	}
	return false, err
}

// takeShared has a request belong to a match, by the first of the tickets whose session is allowed, and reports whether there is one. By
// credentials it takes any that holds, because they are checked anew.
func (g *Gateway) takeShared(ctx context.Context, rc *requestContext, m *sharedMatch, tickets []string, numOpened *int) (isFound bool, err error) {
	for _, text := range tickets {
		claims, isValid := g.signer.Verify(text, m.target.scope())
		if !isValid {
			continue
		}
		if m.isGroup {
			rc.target = m.target
			g.useCredentials(rc)
			return true, nil
		}
		if g.options.Sessions.Find(claims.ID) == nil {
			if *numOpened == maxOpenedForOne || ctx.Err() != nil {
				break
			}
			*numOpened++
		}
		s, failed := g.openShared(ctx, rc, &m.target, claims)
		if isAllowed(s) {
			g.match(rc, &m.target, claims.ID, s)
			return true, nil
		}
		err = errors.Join(err, failed)
	}
	return false, err
}

// openShared opens the session of a ticket that a node has shared of a viewer on a target, and remembers it.
func (g *Gateway) openShared(ctx context.Context, rc *requestContext, t *target, claims ticket.Claims) (session.Handle, error) {
	shared := new(requestContext)
	*shared = *rc
	shared.target, shared.id, shared.claims, shared.credentials = *t, claims.ID, claims, backends.Credentials{}
	s, err := g.options.Sessions.Open(ctx, g.openRequest(shared, false))
	if err != nil {
		return nil, err
	}
	g.fingerprints.Record(g.fingerprint(rc, t), claims.ID, s.Ticket().Opened, g.options.Matches.LostAt(), rc.now)
	return s, nil
}
