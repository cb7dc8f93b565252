package gateway

import (
	"errors"
	"fmt"

	"usher/backends"
	"usher/gateway/edge"
)

// BackendRequest is what a backend would be asked about a viewer who comes without a ticket, to us or to an edge that asks us.
// channel is the edge's own name of it, if it has one. The error says why nobody would be asked at all.
func (g *Gateway) BackendRequest(req *Request, channel string) (*backends.Request, error) {
	if !isCleanPath(req.Path) {
		return nil, errors.New(uncleanPath)
	}
	viewer := clientOf(req, g.trusted)
	t, found := g.viewerTarget(req, viewer, channel)
	if !found {
		return nil, errors.New("no route for this path and host")
	}
	rc := newRequestContext(req, t, viewer)
	if e := t.route.endpoint; e != nil {
		rc.isPlaylist = rc.isPlaylist || e.Dialect().KeepsSessions()
	}
	if !rc.canOpenSession() {
		return nil, errors.New("only playlists open sessions; anything else is refused without asking")
	}
	rc.credentials = credentialsOf(&t, req, req.Query, g.options.Config.Tickets.QueryParameter)
	if name := t.route.missing(&rc.credentials); name != "" {
		return nil, fmt.Errorf("the credential %s is missing, so the viewer is refused without asking", name)
	}
	rc.id = g.hasher.sessionID(&t, &rc.credentials, req, rc.viewer, 0)
	return g.newBackendRequest(&rc), nil
}

// viewerTarget is what a viewer wants, here or at an edge.
func (g *Gateway) viewerTarget(req *Request, viewer client, channel string) (target, bool) {
	q := edge.CheckRequest{Host: viewer.host, Path: req.Path, Channel: channel}
	for _, r := range g.routes {
		if r.endpoint != nil {
			if t, found := r.edgeTarget(&q); found {
				return t, true
			}
			continue
		}
		if t := (target{path: req.Path}); r.servesHost(viewer.host) && t.matchFrom(r, 0) {
			return t, true
		}
	}
	return target{}, false
}
