package gateway

import (
	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/ticket"
)

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

// recordGroup remembers which session plays with the viewer's credentials, if a playlist shows them. Beside a ticket they may be others
// than those that were checked.
func (g *Gateway) recordGroup(rc *requestContext) {
	if rc.credentials.IsEmpty() || !rc.isPlaylist || rc.target.route.endpoint.Dialect().KeepsSessions() {
		return
	}
	group := g.groupOf(rc)
	if rc.hasTicket && (rc.session == nil || rc.session.Request().Group != group) {
		return
	}
	g.fingerprints.Record(g.fingerprints.OfGroup(group), rc.id, rc.now)
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
