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
	incoming edge.Incoming
	request  edge.Question
	view     View // of the viewer, as the edge tells it
	header   edge.ViewerHeader
}

// serveEdge answers an edge that asks over HTTP at the path of an endpoint. The edge is who holds the connection or,
// behind a trusted proxy, who that one says.
func (g *Gateway) serveEdge(ctx context.Context, req *View, viewer client, resp *Answer) error {
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
	check.incoming = edge.Incoming{
		Method: req.Method, Query: req.Query, Host: req.Host, Header: req.Header, Body: body, IsEdge: g.isEdge,
	}
	if err := endpoint.Dialect().Read(&check.incoming, &check.request); err != nil {
		endpoint.WarnUnreadable(g.o.Logger, edgeAddr, err)
		rejectUnreadable(endpoint, err, resp)
		return nil
	}
	return g.answerEdge(ctx, check, endpoint.Dialect(), edgeAddr, req.Path, resp)
}

// Check answers an edge that asks by other means than the public listener. The answer's status and fields are in the
// dialect's words. It returns an error only if the edge went away.
func (g *Gateway) Check(ctx context.Context, d edge.Dialect, edgeAddr netip.Addr, q *edge.Question, resp *Answer) error {
	endpoint, isAllowed := g.endpoints.OfDialect(d, edgeAddr)
	if !isAllowed {
		g.rejectUnlistedEdge(endpoint, edgeAddr, resp)
		return nil
	}
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.request = *q
	check.request.Address = g.behindProxy(q)
	return g.answerEdge(ctx, check, d, edgeAddr, "", resp)
}

func (g *Gateway) release(check *edgeCheck) {
	*check = edgeCheck{}
	g.edgeChecks.Put(check)
}

// behindProxy is the viewer's address where the edge itself stands behind a proxy of ours and says that one's.
func (g *Gateway) behindProxy(q *edge.Question) netip.Addr {
	if q.Header == nil || !g.trusted.contain(q.Address) {
		return q.Address
	}
	if viewer := edge.LastForwarded(q.Header.Values("X-Forwarded-For"), g.isEdge); viewer.IsValid() {
		return viewer
	}
	return q.Address
}

// listsEdge reports whether an address is an edge's or a trusted proxy's, so that it is no viewer's.
func (g *Gateway) listsEdge(address netip.Addr) bool {
	return g.trusted.contain(address) || g.endpoints.Allow(address)
}

// rejectUnlistedEdge refuses an edge that no network lists, and warns the operator: most likely it is one of theirs that
// they forgot. The endpoint may be nil.
func (g *Gateway) rejectUnlistedEdge(endpoint *edge.Endpoint, address netip.Addr, resp *Answer) {
	resp.refuse(http.StatusForbidden, "you are none of routes[].edge.networks")
	endpoint.WarnUnlisted(g.o.Logger, address)
}

// rejectUnreadable refuses an edge's request that cannot be read, in the edge's dialect.
func rejectUnreadable(endpoint *edge.Endpoint, err error, resp *Answer) {
	resp.refuse(endpoint.Dialect().Word(edge.Result{Status: http.StatusForbidden}, resp), err.Error())
}

// answerEdge finds the route of what the viewer wants at the edge, decides, and encodes the answer. at is the path at
// which the edge asked; several routes may share it.
func (g *Gateway) answerEdge(
	ctx context.Context, check *edgeCheck, d edge.Dialect, edgeAddr netip.Addr, at string, resp *Answer,
) error {
	q := &check.request
	rc := &resp.visit
	t, found := g.findEdgeTarget(d, edgeAddr, at, q)
	switch {
	case !found:
		resp.refuse(http.StatusForbidden, "no route for this path and host")
		g.warnUnrouted(d, edgeAddr, at)
	case !cleanPath(t.path):
		resp.refuse(http.StatusForbidden, unclean)
	default:
		check.view = View{
			Method: q.Method, Scheme: q.Scheme, Host: q.Host, Path: q.Path, Query: q.Query,
			edgeSession: q.Namespaced(edgeAddr), publishes: q.Publish,
		}
		check.header.Request = q
		check.view.Header = &check.header
		*rc = visitOf(&check.view, t, client{address: q.Address, scheme: q.Scheme, host: q.Host})
		rc.isPlaylist = rc.isPlaylist || d.KeepsSessions()
		if err := g.admitAtEdge(ctx, rc, resp); err != nil {
			return err
		}
	}
	encodeForEdge(d, rc, resp)
	return nil
}

// findEdgeTarget is what the viewer wants at an edge: the first route fits that allows the edge.
func (g *Gateway) findEdgeTarget(d edge.Dialect, edgeAddr netip.Addr, at string, q *edge.Question) (target, bool) {
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
		if r.endpoint.Matches(d, edgeAddr, at) && r.endpoint.WarnUnrouted(g.o.Logger, edgeAddr, r.name) {
			return
		}
	}
}

// admitAtEdge decides on a viewer of an edge's. It answers as it would a viewer who asks for media.
func (g *Gateway) admitAtEdge(ctx context.Context, rc *visit, resp *Answer) error {
	r := rc.target.route
	switch {
	case rc.view.Method == http.MethodOptions: // a browser asks before it shows who it is, and learns nothing by it
		resp.Status = http.StatusOK
		return nil
	case rc.view.Method != http.MethodGet && rc.view.Method != http.MethodHead:
		resp.refuse(http.StatusForbidden, "only GET, HEAD and OPTIONS")
		return nil
	case rc.view.publishes && r.config.Edge.PublishBackend == "":
		resp.refuse(http.StatusForbidden, "nobody may publish: the route has no edge.publish_backend")
		return nil
	case !rc.mayOpen() && r.endpoint.Matching() == edge.MatchByPlaylistsOnly && !mayBePlaylist(rc.target.path):
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
		if rc.who.address.IsValid() {
			g.fingerprints.Record(g.fingerprint(rc), rc.id)
		}
	case edge.MatchByCookie:
		if !rc.byTicket {
			g.setCookies(rc, resp)
		}
	}
	return nil
}

// fingerprint is what a viewer who shows nothing else is matched by.
func (g *Gateway) fingerprint(rc *visit) edge.Fingerprint {
	t := &rc.target
	return g.fingerprints.Of(t.route.name, t.channel, rc.who.address, rc.view.Header.Get("User-Agent"), rc.view.publishes)
}

// findByFingerprint finds the session of a viewer who shows nothing else, or nil.
func (g *Gateway) findByFingerprint(rc *visit) (backends.SessionID, Session) {
	var ids [edge.MaxAlike]backends.SessionID
	return newestAllowed(g.fingerprints.AppendSessions(ids[:0], g.fingerprint(rc)), g.o.Sessions.Find)
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
func (g *Gateway) identifyAtEdge(rc *visit, resp *Answer) bool {
	r := rc.target.route
	if r.endpoint.Matching() == edge.MatchByCookie {
		if ticket := ticketElsewhere(&rc.target, rc.view, &g.o.Config.Tickets); ticket != "" {
			rc.claims, rc.byTicket = g.verify(ticket, &rc.target)
		}
	}
	rc.credentials = credentialsOf(&rc.target, rc.view, rc.view.Query, g.o.Config.Tickets.Parameter)
	if rc.byTicket {
		rc.id = rc.claims.id
		if !rc.mayOpen() || r.missing(&rc.credentials) != "" {
			rc.credentials = backends.Credentials{}
		}
		return true
	}
	if !rc.credentials.IsEmpty() && r.missing(&rc.credentials) == "" {
		rc.id = g.identifier.sessionID(&rc.target, &rc.credentials, rc.view, rc.who, 0)
		if rc.mayOpen() || g.o.Sessions.Find(rc.id) != nil {
			return true
		}
	}
	if r.endpoint.Matching() == edge.MatchByAddressAgent && rc.who.address.IsValid() {
		if id, s := g.findByFingerprint(rc); s != nil {
			rc.id, rc.credentials = id, backends.Credentials{}
			rc.claims = claims{id: id, Ticket: s.Ticket()}
			return true
		}
	}
	if !rc.mayOpen() {
		resp.refuse(http.StatusForbidden, "nobody is known to watch from there; only playlists open sessions")
		return false
	}
	if name := r.missing(&rc.credentials); name != "" {
		resp.refuse(http.StatusForbidden, "the credential "+name+" is missing")
		return false
	}
	rc.id = g.identifier.sessionID(&rc.target, &rc.credentials, rc.view, rc.who, 0)
	return true
}

// encodeRefusal encodes a refusal in the dialect of the edge that asked, if the request is for an endpoint and not for a
// route of media before it: a viewer's 503 must stay one. Nothing is known of who asks.
func (g *Gateway) encodeRefusal(req *View, resp *Answer) {
	_, path, _ := ticketInPath(req.Path)
	if t, found := findTarget(g.routes, clientOf(req, g.trusted).host, path); found && t.route.endpoint != nil {
		encodeForEdge(t.route.endpoint.Dialect(), &visit{}, resp)
	}
}

// encodeForEdge turns the answer for a viewer into the one for the edge that asked about them.
func encodeForEdge(d edge.Dialect, rc *visit, resp *Answer) {
	r, why := edge.Result{Status: resp.Status}, resp.Body
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
		r.Left = rc.session.Expires().Sub(rc.now)
	}
	resp.keepOnly("Set-Cookie")
	resp.Body = nil
	resp.Status = d.Word(r, resp)
	resp.set("Cache-Control", "no-store")
	if resp.Status != http.StatusOK && !d.KeepsSessions() { // those show nothing of a body
		resp.Body = why
		resp.set("Content-Type", "text/plain; charset=utf-8")
	}
	resp.set("Content-Length", strconv.Itoa(len(resp.Body)))
}
