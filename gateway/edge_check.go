package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/ticket"
	"usher/gateway/urlpath"
)

// edgeCheck is the memory that answering one edge takes. It is pooled.
type edgeCheck struct {
	incoming edge.HTTPRequest
	request  edge.CheckRequest
	viewer   Request // as the edge reports it
	header   edge.ViewerHeader
}

// serveEdge answers an edge that asks over HTTP at an endpoint's path. The edge is at the other end of the connection, or
// behind a trusted proxy that forwards its address.
func (g *Gateway) serveEdge(ctx context.Context, req *Request, viewer client, resp *Response) error {
	edgeAddr := req.Peer
	endpoint, isAllowed := g.endpoints.AtPath(req.Path, edgeAddr)
	if !isAllowed {
		edgeAddr = viewer.address
		endpoint, isAllowed = g.endpoints.AtPath(req.Path, edgeAddr)
	}
	if !isAllowed {
		g.rejectUnlistedEdge(endpoint, edgeAddr, resp)
		return nil
	}
	body, err := edge.ReadBody(req.Body)
	if err != nil {
		g.rejectUnreadable(endpoint, edgeAddr, err, resp)
		return nil
	}
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.incoming = edge.HTTPRequest{
		Method: req.Method, Query: req.Query, Host: req.Host, Header: req.Header, Body: body, IsForwarder: g.isForwarder,
	}
	if err := endpoint.Dialect().Decode(&check.incoming, &check.request); err != nil {
		endpoint.WarnUnreadable(g.options.Logger, edgeAddr, err)
		g.rejectUnreadable(endpoint, edgeAddr, err, resp)
		return nil
	}
	return g.answerEdge(ctx, check, endpoint.Dialect(), edgeAddr, req.Path, resp)
}

// Check answers an edge that asks by other means than the public listener. The response is encoded in the dialect. Check
// returns an error only if the edge disconnected.
func (g *Gateway) Check(ctx context.Context, d edge.Dialect, edgeAddr netip.Addr, q *edge.CheckRequest, resp *Response) error {
	endpoint, isAllowed := g.endpoints.OfDialect(d, edgeAddr)
	if !isAllowed {
		g.rejectUnlistedEdge(endpoint, edgeAddr, resp)
		return nil
	}
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.request = *q
	check.request.Address = g.viewerAddress(q)
	return g.answerEdge(ctx, check, d, edgeAddr, "", resp)
}

func (g *Gateway) release(check *edgeCheck) {
	*check = edgeCheck{}
	g.edgeChecks.Put(check)
}

// viewerAddress returns the viewer's address. An edge behind a trusted proxy reports that proxy's address, so then the
// viewer's is in X-Forwarded-For.
func (g *Gateway) viewerAddress(q *edge.CheckRequest) netip.Addr {
	if q.Header == nil || !g.trusted.contain(q.Address) {
		return q.Address
	}
	if viewer := edge.LastForwarded(q.Header.Values("X-Forwarded-For"), g.isForwarder); viewer.IsValid() {
		return viewer
	}
	return q.Address
}

// isEdgeOrProxy reports whether an address is an edge's or a trusted proxy's, and so not a viewer's.
func (g *Gateway) isEdgeOrProxy(address netip.Addr) bool {
	return g.trusted.contain(address) || g.endpoints.Allow(address)
}

// rejectUnlistedEdge refuses an edge outside the endpoint's networks and warns the operator, who most likely forgot to list
// it. The endpoint may be nil.
func (g *Gateway) rejectUnlistedEdge(endpoint *edge.Endpoint, address netip.Addr, resp *Response) {
	endpoint.WarnUnlisted(g.options.Logger, address)
	if g.waiveAtEndpoint(endpoint, address, enforcement.UnlistedEdge, resp) {
		encodeForEdge(endpoint.Dialect(), &requestContext{}, resp)
		return
	}
	resp.refuse(http.StatusForbidden, "this address may not ask; add it to routes[].edge.networks")
}

// waiveAtEndpoint answers yes to an edge that cannot be told about a viewer, if the endpoint's route does not enforce
// anything. It reports whether it did.
func (g *Gateway) waiveAtEndpoint(endpoint *edge.Endpoint, edgeAddr netip.Addr, reason enforcement.Reason, resp *Response) bool {
	i := slices.IndexFunc(g.routes, func(r *route) bool { return endpoint != nil && r.endpoint == endpoint })
	if i < 0 || g.routes[i].config.Enforce == enforcement.Enforced {
		return false
	}
	g.unenforced.Record(enforcement.Refusal{
		Route: g.routes[i].name, Session: backends.SessionID(edgeAddr.As16()), Reason: reason,
		Facts: []slog.Attr{slog.String("edge", edgeAddr.String())},
	})
	resp.Status = http.StatusOK
	return true
}

// rejectUnreadable refuses an edge's request that cannot be decoded, in the edge's dialect.
func (g *Gateway) rejectUnreadable(endpoint *edge.Endpoint, edgeAddr netip.Addr, err error, resp *Response) {
	if g.waiveAtEndpoint(endpoint, edgeAddr, enforcement.UnreadableCheck, resp) {
		encodeForEdge(endpoint.Dialect(), &requestContext{}, resp)
		return
	}
	resp.refuse(endpoint.Dialect().Encode(edge.CheckResult{Status: http.StatusForbidden}, resp), err.Error())
}

// answerEdge finds the viewer's target, decides, and encodes the response for the edge. at is the path at which the edge
// asked; several routes may share it.
func (g *Gateway) answerEdge(
	ctx context.Context, check *edgeCheck, d edge.Dialect, edgeAddr netip.Addr, at string, resp *Response,
) error {
	q := &check.request
	rc := &resp.scratch
	t, found := g.findEdgeTarget(d, edgeAddr, at, q)
	switch {
	case !found:
		g.rejectUnrouted(d, edgeAddr, at, resp)
	case !urlpath.IsClean(t.path) && g.waiveAtEndpoint(t.route.endpoint, edgeAddr, enforcement.UncleanPath, resp):
	case !urlpath.IsClean(t.path):
		resp.refuse(http.StatusForbidden, urlpath.Unclean)
	default:
		check.viewer = Request{
			Method: q.Method, Scheme: q.Scheme, Host: q.Host, Path: q.Path, Query: q.Query,
			edgeCheck: q, edgeAddr: edgeAddr, isPublish: q.IsPublish,
		}
		check.header.Request = q
		check.viewer.Header = &check.header
		rc.begin(&check.viewer, &client{address: q.Address, scheme: q.Scheme, host: q.Host})
		rc.aim(&t)
		rc.isPlaylist = rc.isPlaylist || d.KeepsSessions()
		if err := g.admitAtEdge(ctx, rc, resp); err != nil {
			return err
		}
	}
	encodeForEdge(d, rc, resp)
	return nil
}

// findEdgeTarget returns the target of a viewer at an edge, from the first matching route that allows the edge.
func (g *Gateway) findEdgeTarget(d edge.Dialect, edgeAddr netip.Addr, at string, q *edge.CheckRequest) (target, bool) {
	for _, r := range g.routes {
		if !r.endpoint.Matches(d, edgeAddr, at) {
			continue
		}
		if t, found := r.edgeTarget(q); found {
			return t, true
		}
	}
	return target{}, false
}

// rejectUnrouted refuses a viewer for whose path the edge has no route, and warns the operator.
func (g *Gateway) rejectUnrouted(d edge.Dialect, edgeAddr netip.Addr, at string, resp *Response) {
	g.warnUnrouted(d, edgeAddr, at)
	for _, r := range g.routes {
		if r.endpoint.Matches(d, edgeAddr, at) && g.waiveAtEndpoint(r.endpoint, edgeAddr, enforcement.NoRoute, resp) {
			return
		}
	}
	resp.refuse(http.StatusForbidden, "no route serves this path and host")
}

// warnUnrouted warns that viewers of the edge ask for what none of its routes serves.
func (g *Gateway) warnUnrouted(d edge.Dialect, edgeAddr netip.Addr, at string) {
	for _, r := range g.routes {
		if r.endpoint.Matches(d, edgeAddr, at) && r.endpoint.WarnUnrouted(g.options.Logger, edgeAddr, r.name) {
			return
		}
	}
}

// admitAtEdge decides on a viewer of an edge. It writes the response that a viewer who asks for media would get.
func (g *Gateway) admitAtEdge(ctx context.Context, rc *requestContext, resp *Response) error {
	if answerUnchecked(rc, resp) {
		return nil
	}
	before := resp.numFields
	if g.identifyAtEdge(rc, resp) {
		if err := g.authorize(ctx, rc, resp); err != nil {
			return err
		}
	}
	g.countRefusal(rc, resp)
	if g.waiveRefusal(rc, resp, before); resp.Status != 0 {
		return nil
	}
	resp.Status = http.StatusOK
	if rc.isRefused {
		return nil
	}
	g.recordGroup(rc)
	switch rc.target.route.endpoint.Matching() {
	case edge.MatchByAddressAgent:
		if rc.viewer.address.IsValid() {
			g.fingerprints.Record(g.fingerprint(rc, &rc.target), rc.id, rc.now)
		}
	case edge.MatchByCookie:
		if !rc.hasTicket {
			g.setCookies(rc, resp)
		}
	}
	return nil
}

// answerUnchecked answers what needs no decision, and reports whether it did.
func answerUnchecked(rc *requestContext, resp *Response) bool {
	r := rc.target.route
	switch {
	case rc.request.Method == http.MethodOptions: // a browser's preflight shows no credentials, and learns nothing
		resp.Status = http.StatusOK
	case r.config.Enforce == enforcement.Enforced && rc.request.Method != http.MethodGet && rc.request.Method != http.MethodHead:
		resp.refuse(http.StatusForbidden, "only GET, HEAD and OPTIONS")
	case rc.request.isPublish && r.config.Edge.PublishBackend == "":
		resp.refuse(http.StatusForbidden, "publishing is not allowed; the route has no edge.publish_backend")
	case !rc.canOpenSession() && r.endpoint.Matching() == edge.MatchByPlaylistsOnly && !mayBePlaylist(rc.target.path):
		resp.Status = http.StatusOK
	default:
		return false
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

// mayBePlaylist reports whether an origin may take a path for a playlist's: some cut off what follows a ';'.
func mayBePlaylist(path string) bool { return strings.Contains(strings.ToLower(path), ".m3u") }

// identifyAtEdge finds the session id of a viewer at an edge by ticket, by credentials, or by fingerprint, and reports
// whether it found one. Only playlists open sessions, except at edges that keep sessions themselves.
func (g *Gateway) identifyAtEdge(rc *requestContext, resp *Response) bool {
	rc.credentials = credentialsOf(&rc.target, rc.request, rc.request.Query, g.options.Config.Tickets.Parameter)
	missing := rc.target.route.missing(&rc.credentials)
	switch {
	case g.matchByTicket(rc):
		if !rc.canOpenSession() || missing != "" {
			rc.credentials = backends.Credentials{}
		}
		return g.bindTicket(rc, resp)
	case missing == "" && g.matchByCredentials(rc), g.matchByFingerprint(rc):
		return true
	case !rc.canOpenSession():
		why := "no session matches this request; open the playlist first"
		if rc.badTicket != "" {
			why = refusalOfTicket(rc.badTicket) + "; open the playlist again"
		}
		resp.refuse(http.StatusForbidden, why)
	case missing != "":
		resp.refuse(http.StatusForbidden, rc.whyMissing(missing))
	default:
		rc.id = g.sessionOfCredentials(rc)
		return true
	}
	return false
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

// encodeRefusal encodes a refusal in the edge's dialect if the request is for an endpoint. A media route before it wins:
// a viewer's 503 must stay one. The client need not be a listed edge.
func (g *Gateway) encodeRefusal(req *Request, resp *Response) {
	_, path, _ := ticketInPath(req.Path)
	var t target
	if findTarget(g.routes, clientOf(req, g.trusted).host, path, &t) && t.route.endpoint != nil {
		encodeForEdge(t.route.endpoint.Dialect(), &requestContext{}, resp)
	}
}

// encodeForEdge turns the response for a viewer into the one for the edge that asked.
func encodeForEdge(d edge.Dialect, rc *requestContext, resp *Response) {
	r, why := edge.CheckResult{Status: resp.Status}, resp.Body
	for _, f := range resp.Fields() {
		switch f.Name {
		case "Location":
			r.Location = f.Value
		case "Retry-After":
			r.RetryAfter = f.Value
		case "Www-Authenticate":
			r.Challenges = append(r.Challenges, f.Value)
		}
	}
	if rc.session != nil {
		r.Decision = rc.session.Decision()
		r.ValidFor = rc.session.Expires().Sub(rc.now)
	}
	resp.keepFields("Set-Cookie")
	resp.Body = nil
	resp.Status = d.Encode(r, resp)
	resp.Set("Cache-Control", "no-store")
	if resp.Status != http.StatusOK && !d.KeepsSessions() { // edges that keep sessions ignore the body
		resp.Body = why
		resp.Set("Content-Type", "text/plain; charset=utf-8")
	}
}
