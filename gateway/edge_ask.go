package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/backends"
	"usher/gateway/authz"
)

// maxQuestion bounds the body of an edge's question, in bytes.
const maxQuestion = 64 << 10

// edgeAsk is what answering one edge takes. It is used again.
type edgeAsk struct {
	incoming authz.Incoming
	question authz.Question
	view     View // of the viewer, as the edge tells it
	header   edgeHeader
}

// edgeHeader is the viewer's header as the edge tells it.
type edgeHeader struct{ q *authz.Question }

// Get is the field's first value.
func (h *edgeHeader) Get(name string) string {
	switch {
	case name == "User-Agent":
		return h.q.UserAgent
	case name == "Referer":
		return h.q.Referer
	case h.q.Header != nil:
		return h.q.Header.Get(name)
	}
	return ""
}

// Values are the field's values.
func (h *edgeHeader) Values(name string) []string {
	if h.q.Header != nil {
		return h.q.Header.Values(name)
	}
	return nil
}

// serveEdge answers an edge's question that came over HTTP to a path at which there is a door. The edge is who holds the
// connection or, behind a trusted proxy, who that one says.
func (g *Gateway) serveEdge(ctx context.Context, v *View, who client, a *Answer) error {
	ask, _ := g.asks.Get().(*edgeAsk)
	defer g.giveBack(ask)
	ask.incoming = authz.Incoming{
		Method: v.Method, Query: v.Query, Host: v.Host, Header: v.Header, IsEdge: g.isEdge,
	}
	edge := v.Peer
	d := g.doorFor(v.Path, edge)
	if d == nil {
		edge = who.address
		d = g.doorFor(v.Path, edge)
	}
	if d == nil {
		g.stranger(g.doorAt(v.Path), edge, a)
		return nil
	}
	if v.Body != nil {
		body, err := io.ReadAll(io.LimitReader(v.Body, maxQuestion+1))
		if err != nil || len(body) > maxQuestion {
			a.refuse(d.dialect.Word(authz.Result{Status: http.StatusForbidden}, a), "the body is broken or too large")
			return nil
		}
		ask.incoming.Body = body
	}
	if err := d.dialect.Read(&ask.incoming, &ask.question); err != nil {
		if d.unread.mayWarn(time.Now()) {
			g.o.Logger.Warn("an edge asks in words that cannot be read, so its viewers are refused",
				slog.String("edge", edge.String()), slog.String("dialect", d.dialect.String()), slog.Any("error", err))
		}
		a.refuse(d.dialect.Word(authz.Result{Status: http.StatusForbidden}, a), err.Error())
		return nil
	}
	return g.answerEdge(ctx, ask, d.dialect, edge, v.Path, a)
}

// Ask answers an edge's question that came by other means than the public listener. The answer's status and fields are
// in the dialect's words. It returns an error only if the edge went away.
func (g *Gateway) Ask(ctx context.Context, d authz.Dialect, edge netip.Addr, q *authz.Question, a *Answer) error {
	ask, _ := g.asks.Get().(*edgeAsk)
	defer g.giveBack(ask)
	var there *door // where the edge asks, listed or not
	for _, r := range g.routes {
		if r.door == nil || r.door.dialect != d {
			continue
		}
		if there = r.door; there.lets(edge) {
			ask.question = *q
			ask.question.Address = g.behindProxy(q)
			return g.answerEdge(ctx, ask, d, edge, "", a)
		}
	}
	g.stranger(there, edge, a)
	return nil
}

// behindProxy is the viewer's address where the edge itself stands behind a proxy of ours and says that one's.
func (g *Gateway) behindProxy(q *authz.Question) netip.Addr {
	if q.Header == nil || !isTrusted(q.Address, g.trusted) {
		return q.Address
	}
	if viewer := authz.LastForwarded(q.Header.Values("X-Forwarded-For"), g.isEdge); viewer.IsValid() {
		return viewer
	}
	return q.Address
}

// doorAt is the first door at a path, or nil.
func (g *Gateway) doorAt(path string) *door {
	for _, r := range g.routes {
		if r.door != nil && r.door.isAt(path) {
			return r.door
		}
	}
	return nil
}

// doorFor is the first door at a path at which the edge is heard, or nil.
func (g *Gateway) doorFor(path string, edge netip.Addr) *door {
	for _, r := range g.routes {
		if r.door != nil && r.door.isAt(path) && r.door.lets(edge) {
			return r.door
		}
	}
	return nil
}

// reword turns a refusal into the words of the edge that asked, if the request is for a door and not for a route of media
// before it: a viewer's 503 must stay one. Nothing is known of who asks.
func (g *Gateway) reword(v *View, a *Answer) {
	_, path, _ := ticketInPath(v.Path)
	if t, found := findTarget(g.routes, clientOf(v, g.trusted).host, path); found && t.route.door != nil {
		g.word(t.route.door.dialect, &visit{}, a)
	}
}

func (g *Gateway) giveBack(ask *edgeAsk) {
	*ask = edgeAsk{}
	g.asks.Put(ask)
}

// listsEdge reports whether an address is an edge's or a trusted proxy's, so that it is no viewer's.
func (g *Gateway) listsEdge(address netip.Addr) bool {
	if isTrusted(address, g.trusted) {
		return true
	}
	return slices.ContainsFunc(g.routes, func(r *route) bool { return r.door != nil && r.door.lets(address) })
}

// stranger refuses somebody who asks without being listed, and tells the operator: most likely it is an edge of his that
// he forgot. The door may be nil.
func (g *Gateway) stranger(d *door, address netip.Addr, a *Answer) {
	a.refuse(http.StatusForbidden, "you are none of routes[].edge.networks")
	if d != nil && d.strange.mayWarn(time.Now()) {
		g.o.Logger.Warn("somebody asks who is no edge; if he is one of yours, add him to the route's edge.networks",
			slog.String("address", address.String()), slog.String("dialect", d.dialect.String()))
	}
}

// answerEdge finds the route of what the viewer wants at the edge, decides, and words the answer. at is the path at which
// the edge asked; several routes may share it.
func (g *Gateway) answerEdge(
	ctx context.Context, ask *edgeAsk, d authz.Dialect, edge netip.Addr, at string, a *Answer,
) error {
	q := &ask.question
	visit := &a.visit
	t, found := g.findEdgeTarget(d, edge, at, q)
	switch {
	case !found:
		a.refuse(http.StatusForbidden, "no route for this path and host")
		g.unrouted(d, edge, at)
	case !cleanPath(t.path):
		a.refuse(http.StatusForbidden, unclean)
	default:
		ask.view = View{
			Method: q.Method, Scheme: q.Scheme, Host: q.Host, Path: q.Path, Query: q.Query,
			edgeSession: q.Namespaced(edge), publishes: q.Publish,
		}
		ask.header.q = q
		ask.view.Header = &ask.header
		*visit = visitOf(&ask.view, t, client{address: q.Address, scheme: q.Scheme, host: q.Host})
		visit.isPlaylist = visit.isPlaylist || d.KeepsSessions()
		if err := g.admitAtEdge(ctx, visit, a); err != nil {
			return err
		}
	}
	g.word(d, visit, a)
	return nil
}

// findEdgeTarget is what the viewer wants at an edge: the first route fits that hears it.
func (g *Gateway) findEdgeTarget(d authz.Dialect, edge netip.Addr, at string, q *authz.Question) (target, bool) {
	for _, r := range g.routes {
		if !r.door.isFor(d, edge, at) {
			continue
		}
		if t, found := r.edgeTarget(q); found {
			return t, true
		}
	}
	return target{}, false
}

// unrouted tells the operator that viewers want what no route of their edge's has. What that is may hold credentials.
func (g *Gateway) unrouted(dialect authz.Dialect, edge netip.Addr, at string) {
	for _, r := range g.routes {
		if r.door.isFor(dialect, edge, at) && r.door.unrouted.mayWarn(time.Now()) {
			g.o.Logger.Warn("an edge asks about paths or hosts that no route of its has, so viewers are refused; "+
				"look at edge.viewer_path and hosts",
				slog.String("edge", edge.String()), slog.String("route", r.name))
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
	case !v.mayOpen() && r.door.recognise == authz.RecognisePlaylistsOnly && !mayBePlaylist(v.target.path):
		a.Status = http.StatusOK
		return nil
	case !g.identifyAtEdge(v, a):
		return nil
	}
	if err := g.authorize(ctx, v, a); err != nil || a.Status != 0 {
		return err
	}
	a.Status = http.StatusOK
	switch r.door.recognise {
	case authz.RecogniseAddressAgent:
		if v.who.address.IsValid() {
			g.recognised.note(g.lookOf(v), v.id)
		}
	case authz.RecogniseCookie:
		if !v.byTicket {
			g.setCookies(v, a)
		}
	}
	return nil
}

// lookOf is what a viewer is recognised by where he shows nothing else.
func (g *Gateway) lookOf(v *visit) uint64 {
	return g.recognised.key(&v.target, v.who.address, v.view.Header.Get("User-Agent"), v.view.publishes)
}

// mayBePlaylist reports whether an origin may take a path for that of a playlist: some cut off what follows a ';'.
func mayBePlaylist(path string) bool { return strings.Contains(strings.ToLower(path), ".m3u") }

// identifyAtEdge says which session a viewer of an edge's has or may open: by his ticket, by his credentials, by what he
// looks like. Only playlists open one; of an edge that keeps sessions itself, everything does.
func (g *Gateway) identifyAtEdge(v *visit, a *Answer) bool {
	r := v.target.route
	if r.door.recognise == authz.RecogniseCookie {
		if ticket := ticketElsewhere(&v.target, v.view, &g.o.Config.Tickets); ticket != "" {
			v.claims, v.byTicket = g.verify(ticket, &v.target)
		}
	}
	v.credentials = credentialsOf(&v.target, v.view, v.view.Query, g.o.Config.Tickets.QueryParameter)
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
	if r.door.recognise == authz.RecogniseAddressAgent && v.who.address.IsValid() {
		if id, s := g.recognised.find(g.lookOf(v), g.o.Sessions.Find); s != nil {
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

// word turns the answer for a viewer into the one for the edge that asked about him.
func (g *Gateway) word(d authz.Dialect, v *visit, a *Answer) {
	r, why := authz.Result{Status: a.Status}, a.Body
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

// backend is who decides on the viewer.
func (v *visit) backend() string {
	c := &v.target.route.config
	if v.view.publishes {
		return c.Edge.PublishBackend
	}
	return c.Backend
}
