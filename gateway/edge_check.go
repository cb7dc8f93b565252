package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"usher/backends"
	"usher/gateway/edge"
)

// edgeCheck is what answering one edge takes. It is used again.
type edgeCheck struct {
	incoming edge.HTTPRequest
	request  edge.CheckRequest
	view     Request // of the viewer, as the edge tells it
	header   edge.ViewerHeader
}

// serveEdge answers an edge that asks over HTTP at the path of an endpoint. The edge is who holds the connection or,
// behind a trusted proxy, who that one says.
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
		rejectUnreadable(endpoint, err, resp)
		return nil
	}
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.incoming = edge.HTTPRequest{
		Method: req.Method, Query: req.Query, Host: req.Host, Header: req.Header, Body: body, IsEdge: g.isForwarder,
	}
	if err := endpoint.Dialect().Decode(&check.incoming, &check.request); err != nil {
		endpoint.WarnUnreadable(g.options.Logger, edgeAddr, err)
		rejectUnreadable(endpoint, err, resp)
		return nil
	}
	return g.answerEdge(ctx, check, endpoint.Dialect(), edgeAddr, req.Path, resp)
}

// Check answers an edge that asks by other means than the public listener. The answer's status and fields are in the
// dialect's words. It returns an error only if the edge went away.
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

// viewerAddress is the viewer's address where the edge itself stands behind a proxy of ours and says that one's.
func (g *Gateway) viewerAddress(q *edge.CheckRequest) netip.Addr {
	if q.Header == nil || !g.trusted.contain(q.Address) {
		return q.Address
	}
	if viewer := edge.LastForwarded(q.Header.Values("X-Forwarded-For"), g.isForwarder); viewer.IsValid() {
		return viewer
	}
	return q.Address
}

// isEdgeOrProxy reports whether an address is an edge's or a trusted proxy's, so that it is no viewer's.
func (g *Gateway) isEdgeOrProxy(address netip.Addr) bool {
	return g.trusted.contain(address) || g.endpoints.Allow(address)
}

// rejectUnlistedEdge refuses an edge that no network lists, and warns the operator: most likely it is one of theirs that
// they forgot. The endpoint may be nil.
func (g *Gateway) rejectUnlistedEdge(endpoint *edge.Endpoint, address netip.Addr, resp *Response) {
	resp.refuse(http.StatusForbidden, "you are none of routes[].edge.networks")
	endpoint.WarnUnlisted(g.options.Logger, address)
}

// rejectUnreadable refuses an edge's request that cannot be read, in the edge's dialect.
func rejectUnreadable(endpoint *edge.Endpoint, err error, resp *Response) {
	resp.refuse(endpoint.Dialect().Encode(edge.CheckResult{Status: http.StatusForbidden}, resp), err.Error())
}

// answerEdge finds the route of what the viewer wants at the edge, decides, and encodes the answer. at is the path at
// which the edge asked; several routes may share it.
func (g *Gateway) answerEdge(
	ctx context.Context, check *edgeCheck, d edge.Dialect, edgeAddr netip.Addr, at string, resp *Response,
) error {
	q := &check.request
	rc := &resp.scratch
	t, found := g.findEdgeTarget(d, edgeAddr, at, q)
	switch {
	case !found:
		resp.refuse(http.StatusForbidden, "no route for this path and host")
		g.warnUnrouted(d, edgeAddr, at)
	case !isCleanPath(t.path):
		resp.refuse(http.StatusForbidden, uncleanPath)
	default:
		check.view = Request{
			Method: q.Method, Scheme: q.Scheme, Host: q.Host, Path: q.Path, Query: q.Query,
			edgeSession: q.NamespacedSession(edgeAddr), isPublish: q.IsPublish,
		}
		check.header.Request = q
		check.view.Header = &check.header
		*rc = newRequestContext(&check.view, t, client{address: q.Address, scheme: q.Scheme, host: q.Host})
		rc.isPlaylist = rc.isPlaylist || d.KeepsSessions()
		if err := g.admitAtEdge(ctx, rc, resp); err != nil {
			return err
		}
	}
	encodeForEdge(d, rc, resp)
	return nil
}

// findEdgeTarget is what the viewer wants at an edge: the first route fits that allows the edge.
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

// warnUnrouted warns the operator that viewers want what no route of their edge's has.
func (g *Gateway) warnUnrouted(d edge.Dialect, edgeAddr netip.Addr, at string) {
	for _, r := range g.routes {
		if r.endpoint.Matches(d, edgeAddr, at) && r.endpoint.WarnUnrouted(g.options.Logger, edgeAddr, r.name) {
			return
		}
	}
}

// admitAtEdge decides on a viewer of an edge's. It answers as it would a viewer who asks for media.
func (g *Gateway) admitAtEdge(ctx context.Context, rc *requestContext, resp *Response) error {
	r := rc.target.route
	switch {
	case rc.request.Method == http.MethodOptions: // a browser asks before it shows who it is, and learns nothing by it
		resp.Status = http.StatusOK
		return nil
	case rc.request.Method != http.MethodGet && rc.request.Method != http.MethodHead:
		resp.refuse(http.StatusForbidden, "only GET, HEAD and OPTIONS")
		return nil
	case rc.request.isPublish && r.config.Edge.PublishBackend == "":
		resp.refuse(http.StatusForbidden, "nobody may publish: the route has no edge.publish_backend")
		return nil
	case !rc.canOpenSession() && r.endpoint.Matching() == edge.MatchByPlaylistsOnly && !mayBePlaylist(rc.target.path):
		resp.Status = http.StatusOK
		return nil
	case !g.identifyAtEdge(rc, resp):
		return nil
	}
	if err := g.authorize(ctx, rc, resp); err != nil || resp.Status != 0 {
		return err
	}
	resp.Status = http.StatusOK
	switch r.endpoint.Matching() {
	case edge.MatchByAddressAgent:
		if rc.viewer.address.IsValid() {
			g.fingerprints.Record(g.fingerprint(rc), rc.id)
		}
	case edge.MatchByCookie:
		if !rc.hasTicket {
			g.setCookies(rc, resp)
		}
	}
	return nil
}

// fingerprint is what a viewer who shows nothing else is matched by.
func (g *Gateway) fingerprint(rc *requestContext) edge.Fingerprint {
	t := &rc.target
	return g.fingerprints.Of(t.route.name, t.channel, rc.viewer.address, rc.request.Header.Get("User-Agent"), rc.request.isPublish)
}

// findByFingerprint finds the session of a viewer who shows nothing else, or nil.
func (g *Gateway) findByFingerprint(rc *requestContext) (backends.SessionID, Session) {
	var ids [edge.MaxAlike]backends.SessionID
	return newestAllowed(g.fingerprints.AppendSessions(ids[:0], g.fingerprint(rc)), g.options.Sessions.Find)
}

// newestAllowed is the first session that is allowed, else the first that lives and is decided on, or nil.
func newestAllowed(ids []backends.SessionID, find func(backends.SessionID) Session) (backends.SessionID, Session) {
	var bestID backends.SessionID
	var best Session
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

// mayBePlaylist reports whether an origin may take a path for that of a playlist: some cut off what follows a ';'.
func mayBePlaylist(path string) bool { return strings.Contains(strings.ToLower(path), ".m3u") }

// identifyAtEdge says which session a viewer of an edge's has or may open: by his ticket, by his credentials, by what he
// looks like. Only playlists open one; of an edge that keeps sessions itself, everything does.
func (g *Gateway) identifyAtEdge(rc *requestContext, resp *Response) bool {
	r := rc.target.route
	if r.endpoint.Matching() == edge.MatchByCookie {
		if ticket := ticketInQueryOrCookie(&rc.target, rc.request, &g.options.Config.Tickets); ticket != "" {
			rc.claims, rc.hasTicket = g.verify(ticket, &rc.target)
		}
	}
	rc.credentials = credentialsOf(&rc.target, rc.request, rc.request.Query, g.options.Config.Tickets.QueryParameter)
	if rc.hasTicket {
		rc.id = rc.claims.id
		if !rc.canOpenSession() || r.missing(&rc.credentials) != "" {
			rc.credentials = backends.Credentials{}
		}
		return true
	}
	if !rc.credentials.IsEmpty() && r.missing(&rc.credentials) == "" {
		rc.id = g.hasher.sessionID(&rc.target, &rc.credentials, rc.request, rc.viewer, 0)
		if rc.canOpenSession() || g.options.Sessions.Find(rc.id) != nil {
			return true
		}
	}
	if r.endpoint.Matching() == edge.MatchByAddressAgent && rc.viewer.address.IsValid() {
		if id, s := g.findByFingerprint(rc); s != nil {
			rc.id, rc.credentials = id, backends.Credentials{}
			rc.claims = ticketClaims{id: id, Ticket: s.Ticket()}
			return true
		}
	}
	if !rc.canOpenSession() {
		resp.refuse(http.StatusForbidden, "nobody is known to watch from there; only playlists open sessions")
		return false
	}
	if name := r.missing(&rc.credentials); name != "" {
		resp.refuse(http.StatusForbidden, "the credential "+name+" is missing")
		return false
	}
	rc.id = g.hasher.sessionID(&rc.target, &rc.credentials, rc.request, rc.viewer, 0)
	return true
}

// encodeRefusal encodes a refusal in the dialect of the edge that asked, if the request is for an endpoint and not for a
// route of media before it: a viewer's 503 must stay one. Nothing is known of who asks.
func (g *Gateway) encodeRefusal(req *Request, resp *Response) {
	_, path, _ := ticketInPath(req.Path)
	if t, found := findTarget(g.routes, clientOf(req, g.trusted).host, path); found && t.route.endpoint != nil {
		encodeForEdge(t.route.endpoint.Dialect(), &requestContext{}, resp)
	}
}

// encodeForEdge turns the answer for a viewer into the one for the edge that asked about them.
func encodeForEdge(d edge.Dialect, rc *requestContext, resp *Response) {
	r, why := edge.CheckResult{Status: resp.Status}, resp.Body
	for _, f := range resp.Fields() {
		switch f.Name {
		case "Location":
			r.Location = f.Value
		case "Retry-After":
			r.RetryAfter = f.Value
		}
	}
	if rc.session != nil {
		r.Decision = rc.session.Decision()
		r.ValidFor = rc.session.Expires().Sub(rc.now)
	}
	resp.keepFields("Set-Cookie")
	resp.Body = nil
	resp.Status = d.Encode(r, resp)
	resp.set("Cache-Control", "no-store")
	if resp.Status != http.StatusOK && !d.KeepsSessions() { // those show nothing of a body
		resp.Body = why
		resp.set("Content-Type", "text/plain; charset=utf-8")
	}
	resp.set("Content-Length", strconv.Itoa(len(resp.Body)))
}
