package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/urlpath"
)

// edgeCheck is one check of an edge. It is pooled.
type edgeCheck struct {
	dialect  edge.Dialect
	edgeAddr netip.Addr
	at       string // the path at which the edge asks, which several routes may share
	incoming edge.HTTPRequest
	request  edge.CheckRequest
	viewer   Request // as the edge reports it
	header   edge.ViewerHeader
}

// serveEdge answers an edge that asks over HTTP at an endpoint's path. The edge is at the other end of the connection, or
// behind a trusted proxy that forwards its address.
func (g *Gateway) serveEdge(ctx context.Context, req *Request, viewer client, resp *Response) error {
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.at, check.edgeAddr = req.Path, req.Peer
	check.incoming = edge.HTTPRequest{
		Method: req.Method, Query: req.Query, Host: req.Host, Header: req.Header, IsForwarder: g.isForwarder,
	}
	endpoint, isAllowed := g.endpoints.AtPath(req.Path, check.edgeAddr)
	if !isAllowed {
		check.edgeAddr = viewer.address
		endpoint, isAllowed = g.endpoints.AtPath(req.Path, check.edgeAddr)
	}
	if !isAllowed {
		g.rejectUnlistedEdge(endpoint, check, resp)
		return nil
	}
	check.dialect = endpoint.Dialect()
	body, bodyErr := edge.ReadBody(req.Body)
	check.incoming.Body = body
	err := check.dialect.Decode(&check.incoming, &check.request)
	if bodyErr == nil && err != nil {
		endpoint.WarnUnreadable(g.options.Logger, check.edgeAddr, err)
	}
	if err := cmp.Or(bodyErr, err); err != nil {
		g.rejectCheck(g.routeOf(endpoint), check, enforcement.UnreadableCheck, err.Error(), resp)
		return nil
	}
	return g.answerEdge(ctx, check, resp)
}

// Check answers an edge that asks by other means than the public listener. The response is encoded in the dialect. Check
// returns an error only if the edge disconnected.
func (g *Gateway) Check(ctx context.Context, d edge.Dialect, edgeAddr netip.Addr, q *edge.CheckRequest, resp *Response) error {
	check, _ := g.edgeChecks.Get().(*edgeCheck)
	defer g.release(check)
	check.dialect, check.edgeAddr, check.request = d, edgeAddr, *q
	if endpoint, isAllowed := g.endpoints.OfDialect(d, edgeAddr); !isAllowed {
		g.rejectUnlistedEdge(endpoint, check, resp)
		return nil
	}
	check.request.Address = g.viewerAddress(q)
	return g.answerEdge(ctx, check, resp)
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

// routeOf returns an endpoint's route, or nil if the endpoint is nil.
func (g *Gateway) routeOf(endpoint *edge.Endpoint) *route {
	for _, r := range g.routes {
		if endpoint != nil && r.endpoint == endpoint {
			return r
		}
	}
	return nil
}

// rejectUnlistedEdge refuses an edge outside the endpoint's networks and warns the operator, who most likely forgot to list
// it. The endpoint may be nil.
func (g *Gateway) rejectUnlistedEdge(endpoint *edge.Endpoint, check *edgeCheck, resp *Response) {
	endpoint.WarnUnlisted(g.options.Logger, check.edgeAddr)
	if endpoint != nil && endpoint.Dialect() != edge.Envoy {
		_ = endpoint.Dialect().Decode(&check.incoming, &check.request) // what the viewer wants, without the body of a stranger
	}
	g.rejectCheck(g.routeOf(endpoint), check, enforcement.UnlistedEdge, "this address may not ask; add it to routes[].edge.networks", resp)
}

// rejectCheck refuses a check about which no backend is asked. If the route does not enforce it, the edge gets yes, unless the
// viewer may want to publish. Both answers are the same in every dialect. The route may be nil.
func (g *Gateway) rejectCheck(r *route, check *edgeCheck, reason enforcement.Reason, why string, resp *Response) {
	resp.refuse(http.StatusForbidden, why)
	if r == nil {
		return
	}
	g.tellRefusal(r, reason)
	if r.config.Enforce == enforcement.Enforced || check.request.MayPublish() {
		return
	}
	g.unenforced.Record(enforcement.Refusal{
		Route: r.name, Session: backends.SessionID(check.edgeAddr.As16()), Reason: reason,
		Facts: []slog.Attr{slog.String("edge", check.edgeAddr.String())},
	})
	resp.Status, resp.Body = http.StatusOK, nil
	resp.keepFields("Cache-Control")
}

// answerEdge finds the viewer's target, decides, and encodes the response for the edge.
func (g *Gateway) answerEdge(ctx context.Context, check *edgeCheck, resp *Response) error {
	rc := &resp.scratch
	if t, found := g.findEdgeTarget(check); !found {
		g.rejectUnrouted(check, resp)
	} else if reason, why := whyUnchecked(&t, &check.request); reason != "" {
		g.rejectCheck(t.route, check, reason, why, resp)
	} else {
		q := &check.request
		check.viewer = Request{
			Method: q.Method, Scheme: q.Scheme, Host: q.Host, Path: q.Path, Query: t.queryAtEdge(q, g.options.Config.Tickets.Parameter),
			edgeCheck: q, edgeAddr: check.edgeAddr, isPublish: q.IsPublish,
		}
		check.header.Request = q
		check.viewer.Header = &check.header
		rc.begin(&check.viewer, &client{address: q.Address, scheme: q.Scheme, host: q.Host})
		rc.aim(&t)
		rc.isPlaylist = rc.isPlaylist || check.dialect.KeepsSessions()
		if err := g.admitAtEdge(ctx, rc, resp); err != nil {
			return err
		}
	}
	encodeForEdge(check.dialect, rc, resp)
	return nil
}

// whyUnchecked returns why no backend is asked about a viewer, who is refused; "" if one may be asked.
func whyUnchecked(t *target, q *edge.CheckRequest) (_ enforcement.Reason, why string) {
	switch {
	case !urlpath.IsClean(t.path):
		return enforcement.UncleanPath, urlpath.Unclean
	case q.IsPublish && t.route.config.Edge.PublishBackend == "":
		return enforcement.Publish, "publishing is not allowed; the route has no edge.publish_backend"
	case q.Method != http.MethodGet && q.Method != http.MethodHead:
		return enforcement.Method, "only GET and HEAD; the edge answers OPTIONS itself, as in deploy/edges"
	default:
		return "", ""
	}
}

// findEdgeTarget returns the target of a viewer at an edge, from the first matching route that allows the edge.
func (g *Gateway) findEdgeTarget(check *edgeCheck) (target, bool) {
	for _, r := range g.routes {
		if !r.endpoint.Matches(check.dialect, check.edgeAddr, check.at) {
			continue
		}
		if t, found := r.edgeTarget(&check.request); found {
			return t, true
		}
	}
	return target{}, false
}

// rejectUnrouted refuses a viewer for whose path the edge has no route, and warns the operator. Of the edge's routes, one that
// does not enforce it decides.
func (g *Gateway) rejectUnrouted(check *edgeCheck, resp *Response) {
	var first *route
	hasWarned := false
	for _, r := range g.routes {
		if !r.endpoint.Matches(check.dialect, check.edgeAddr, check.at) {
			continue
		}
		hasWarned = hasWarned || r.endpoint.WarnUnrouted(g.options.Logger, check.edgeAddr, r.name)
		if first == nil || first.config.Enforce == enforcement.Enforced && r.config.Enforce == enforcement.Unenforced {
			first = r
		}
	}
	g.rejectCheck(first, check, enforcement.NoRoute, "no route serves this path and host", resp)
}

// admitAtEdge decides on a viewer of an edge. It writes the response that a viewer who asks for media would get.
func (g *Gateway) admitAtEdge(ctx context.Context, rc *requestContext, resp *Response) error {
	r := rc.target.route
	if r.endpoint.Matching() == edge.MatchByPlaylistsOnly && !rc.canOpenSession() && !mayBePlaylist(rc.target.path) {
		resp.Status = http.StatusOK
		return nil
	}
	before := resp.numFields
	isIdentified, err := g.identifyAtEdge(ctx, rc, resp)
	if err == nil && isIdentified {
		err = g.authorize(ctx, rc, resp)
	}
	if err != nil {
		return err
	}
	g.countRefusal(rc, resp)
	if g.waiveRefusal(rc, resp, before); resp.Status != 0 {
		return nil
	}
	resp.Status = http.StatusOK
	if rc.isRefused {
		return nil
	}
	g.rememberAtEdge(ctx, rc, resp)
	return nil
}

// rememberAtEdge has the next request of an admitted viewer find their session.
func (g *Gateway) rememberAtEdge(ctx context.Context, rc *requestContext, resp *Response) {
	var news [][16]byte
	if key, isNews := g.recordGroup(rc); isNews {
		news = append(news, key)
	}
	switch rc.target.route.endpoint.Matching() {
	case edge.MatchByAddressAgent:
		if key, isNews := g.recordMatch(rc); isNews {
			news = append(news, key)
		}
	case edge.MatchByCookie:
		if !rc.hasTicket {
			g.setCookies(rc, resp)
		}
	}
	g.share(ctx, rc, news)
}

// mayBePlaylist reports whether an origin may take a path for a playlist's: some cut off what follows a ';'.
func mayBePlaylist(path string) bool { return strings.Contains(strings.ToLower(path), ".m3u") }

// identifyAtEdge finds the session id of a viewer at an edge by ticket, by credentials, or by fingerprint, and reports
// whether it found one. Only playlists open sessions, except at edges that keep sessions themselves. It returns an error only if the edge
// disconnected.
func (g *Gateway) identifyAtEdge(ctx context.Context, rc *requestContext, resp *Response) (bool, error) {
	rc.credentials = credentialsOf(&rc.target, rc.request, rc.request.Query, g.options.Config.Tickets.Parameter)
	missing := rc.target.route.missing(&rc.credentials)
	switch {
	case g.matchByTicket(rc):
		if !rc.canOpenSession() || missing != "" {
			rc.credentials = backends.Credentials{}
		}
		return g.bindTicket(rc, resp), nil
	case missing == "" && g.matchByCredentials(rc):
		return true, g.recallEntry(ctx, rc)
	case g.matchByFingerprint(rc):
		return true, nil
	}
	return g.identifyUnknown(ctx, rc, missing, resp)
}

// identifyUnknown is identifyAtEdge for a viewer whom this node does not know. missing is the credential that they did not show.
func (g *Gateway) identifyUnknown(ctx context.Context, rc *requestContext, missing string, resp *Response) (bool, error) {
	mayOpen := rc.canOpenSession() && missing == ""
	if !mayOpen || rc.credentials.IsEmpty() {
		switch isFound, err := g.recall(ctx, rc, missing == ""); {
		case isFound || g.matchRefused(rc):
			return true, nil
		case err != nil && (!mayOpen || errors.Is(err, context.Canceled)):
			return false, g.rejectUnopened(err, resp)
		}
	}
	if !mayOpen {
		resp.refuse(http.StatusForbidden, rc.whyUnidentified(missing))
		return false, nil
	}
	rc.id = g.sessionOfCredentials(rc)
	return true, nil
}

// whyUnidentified tells a viewer at an edge why nothing shows which session is theirs.
func (rc *requestContext) whyUnidentified(missing string) string {
	switch {
	case rc.canOpenSession():
		return rc.whyMissing(missing)
	case rc.badTicket != "":
		return refusalOfTicket(rc.badTicket) + "; open the playlist again"
	default:
		return "no session matches this request; open the playlist first"
	}
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
