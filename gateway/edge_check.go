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
func (g *Gateway) serveEdge(ctx context.Context, v *View, who client, a *Answer) error {
	edgeAddr := v.Peer
	endpoint, isAllowed := g.endpoints.AtPath(v.Path, edgeAddr)
	if !isAllowed {
		edgeAddr = who.address
		endpoint, isAllowed = g.endpoints.AtPath(v.Path, edgeAddr)
	}
	if !isAllowed {
		g.rejectUnlistedEdge(endpoint, edgeAddr, a)
		return nil
	}
	body, err := edge.ReadBody(v.Body)
	if err != nil {
		rejectUnreadable(endpoint, err, a)
		return nil
	}
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.incoming = edge.Incoming{
		Method: v.Method, Query: v.Query, Host: v.Host, Header: v.Header, Body: body, IsEdge: g.isEdge,
	}
	if err := endpoint.Dialect().Read(&check.incoming, &check.request); err != nil {
		endpoint.WarnUnreadable(g.o.Logger, edgeAddr, err)
		rejectUnreadable(endpoint, err, a)
		return nil
	}
	return g.answerEdge(ctx, check, endpoint.Dialect(), edgeAddr, v.Path, a)
}

// Check answers an edge that asks by other means than the public listener. The answer's status and fields are in the
// dialect's words. It returns an error only if the edge went away.
func (g *Gateway) Check(ctx context.Context, d edge.Dialect, edgeAddr netip.Addr, q *edge.Question, a *Answer) error {
	endpoint, isAllowed := g.endpoints.OfDialect(d, edgeAddr)
	if !isAllowed {
		g.rejectUnlistedEdge(endpoint, edgeAddr, a)
		return nil
	}
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.request = *q
	check.request.Address = g.behindProxy(q)
	return g.answerEdge(ctx, check, d, edgeAddr, "", a)
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
func (g *Gateway) rejectUnlistedEdge(endpoint *edge.Endpoint, address netip.Addr, a *Answer) {
	a.refuse(http.StatusForbidden, "you are none of routes[].edge.networks")
	endpoint.WarnUnlisted(g.o.Logger, address)
}

// rejectUnreadable refuses an edge's request that cannot be read, in the edge's dialect.
func rejectUnreadable(endpoint *edge.Endpoint, err error, a *Answer) {
	a.refuse(endpoint.Dialect().Word(edge.Result{Status: http.StatusForbidden}, a), err.Error())
}

// answerEdge finds the route of what the viewer wants at the edge, decides, and encodes the answer. at is the path at
// which the edge asked; several routes may share it.
func (g *Gateway) answerEdge(
	ctx context.Context, check *edgeCheck, d edge.Dialect, edgeAddr netip.Addr, at string, a *Answer,
) error {
	q := &check.request
	visit := &a.visit
	t, found := g.findEdgeTarget(d, edgeAddr, at, q)
	switch {
	case !found:
		a.refuse(http.StatusForbidden, "no route for this path and host")
		g.warnUnrouted(d, edgeAddr, at)
	case !cleanPath(t.path):
		a.refuse(http.StatusForbidden, unclean)
	default:
		check.view = View{
			Method: q.Method, Scheme: q.Scheme, Host: q.Host, Path: q.Path, Query: q.Query,
			edgeSession: q.Namespaced(edgeAddr), publishes: q.Publish,
		}
		check.header.Request = q
		check.view.Header = &check.header
		*visit = visitOf(&check.view, t, client{address: q.Address, scheme: q.Scheme, host: q.Host})
		visit.isPlaylist = visit.isPlaylist || d.KeepsSessions()
		if err := g.admitAtEdge(ctx, visit, a); err != nil {
			return err
		}
	}
	encodeForEdge(d, visit, a)
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
func (g *Gateway) admitAtEdge(ctx context.Context, v *visit, a *Answer) error {
	r := v.target.route
	switch {
	case v.view.Method == http.MethodOptions: // a browser asks before it shows who it is, and learns nothing by it
		a.Status = http.StatusOK
		return nil
	case v.view.Method != http.MethodGet && v.view.Method != http.MethodHead:
		a.refuse(http.StatusForbidden, "only GET, HEAD and OPTIONS")
		return nil
	case v.view.publishes && r.config.Edge.PublishBackend == "":
		a.refuse(http.StatusForbidden, "nobody may publish: the route has no edge.publish_backend")
		return nil
	case !v.mayOpen() && r.endpoint.Matching() == edge.MatchByPlaylistsOnly && !mayBePlaylist(v.target.path):
		a.Status = http.StatusOK
		return nil
	case !g.identifyAtEdge(v, a):
		return nil
	}
	if err := g.authorize(ctx, v, a); err != nil || a.Status != 0 {
		return err
	}
	a.Status = http.StatusOK
	switch r.endpoint.Matching() {
	case edge.MatchByAddressAgent:
		if v.who.address.IsValid() {
			g.fingerprints.Record(g.fingerprint(v), v.id)
		}
	case edge.MatchByCookie:
		if !v.byTicket {
			g.setCookies(v, a)
		}
	}
	return nil
}

// fingerprint is what a viewer who shows nothing else is matched by.
func (g *Gateway) fingerprint(v *visit) edge.Fingerprint {
	t := &v.target
	return g.fingerprints.Of(t.route.name, t.channel, v.who.address, v.view.Header.Get("User-Agent"), v.view.publishes)
}

// findByFingerprint finds the session of a viewer who shows nothing else, or nil.
func (g *Gateway) findByFingerprint(v *visit) (backends.SessionID, Session) {
	var ids [edge.MaxAlike]backends.SessionID
	return newestAllowed(g.fingerprints.AppendSessions(ids[:0], g.fingerprint(v)), g.o.Sessions.Find)
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
func (g *Gateway) identifyAtEdge(v *visit, a *Answer) bool {
	r := v.target.route
	if r.endpoint.Matching() == edge.MatchByCookie {
		if ticket := ticketElsewhere(&v.target, v.view, &g.o.Config.Tickets); ticket != "" {
			v.claims, v.byTicket = g.verify(ticket, &v.target)
		}
	}
	v.credentials = credentialsOf(&v.target, v.view, v.view.Query, g.o.Config.Tickets.Parameter)
	if v.byTicket {
		v.id = v.claims.id
		if !v.mayOpen() || r.missing(&v.credentials) != "" {
			v.credentials = backends.Credentials{}
		}
		return true
	}
	if !v.credentials.IsEmpty() && r.missing(&v.credentials) == "" {
		v.id = g.identifier.sessionID(&v.target, &v.credentials, v.view, v.who, 0)
		if v.mayOpen() || g.o.Sessions.Find(v.id) != nil {
			return true
		}
	}
	if r.endpoint.Matching() == edge.MatchByAddressAgent && v.who.address.IsValid() {
		if id, s := g.findByFingerprint(v); s != nil {
			v.id, v.credentials = id, backends.Credentials{}
			v.claims = claims{id: id, Ticket: s.Ticket()}
			return true
		}
	}
	if !v.mayOpen() {
		a.refuse(http.StatusForbidden, "nobody is known to watch from there; only playlists open sessions")
		return false
	}
	if name := r.missing(&v.credentials); name != "" {
		a.refuse(http.StatusForbidden, "the credential "+name+" is missing")
		return false
	}
	v.id = g.identifier.sessionID(&v.target, &v.credentials, v.view, v.who, 0)
	return true
}

// encodeRefusal encodes a refusal in the dialect of the edge that asked, if the request is for an endpoint and not for a
// route of media before it: a viewer's 503 must stay one. Nothing is known of who asks.
func (g *Gateway) encodeRefusal(v *View, a *Answer) {
	_, path, _ := ticketInPath(v.Path)
	if t, found := findTarget(g.routes, clientOf(v, g.trusted).host, path); found && t.route.endpoint != nil {
		encodeForEdge(t.route.endpoint.Dialect(), &visit{}, a)
	}
}

// encodeForEdge turns the answer for a viewer into the one for the edge that asked about them.
func encodeForEdge(d edge.Dialect, v *visit, a *Answer) {
	r, why := edge.Result{Status: a.Status}, a.Body
	for _, f := range a.Fields() {
		switch f.Name {
		case "Location":
			r.Location = f.Value
		case "Retry-After":
			r.RetryAfter = f.Value
		}
	}
	if v.session != nil {
		r.Decision = v.session.Decision()
		r.Left = v.session.Expires().Sub(v.now)
	}
	a.keepOnly("Set-Cookie")
	a.Body = nil
	a.Status = d.Word(r, a)
	a.set("Cache-Control", "no-store")
	if a.Status != http.StatusOK && !d.KeepsSessions() { // those show nothing of a body
		a.Body = why
		a.set("Content-Type", "text/plain; charset=utf-8")
	}
	a.set("Content-Length", strconv.Itoa(len(a.Body)))
}
