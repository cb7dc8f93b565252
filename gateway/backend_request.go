package gateway

import (
	"errors"
	"fmt"

	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/urlpath"
)

// BackendRequest returns what a backend would be asked about a viewer without a ticket, here or at an edge. channel is the
// edge's own name of the channel, or empty. The error says why no backend would be asked.
func (g *Gateway) BackendRequest(req *Request, channel string) (*backends.Request, error) {
	if !urlpath.IsClean(req.Path) {
		return nil, errors.New(urlpath.Unclean)
	}
	viewer := clientOf(req, g.trusted)
	t, found := g.viewerTarget(req, viewer, channel)
	if !found {
		return nil, errors.New("no route serves this path and host")
	}
	rc := newRequestContext(req, t, viewer)
	if e := t.route.endpoint; e != nil {
		rc.isPlaylist = rc.isPlaylist || e.Dialect().KeepsSessions()
	}
	if !rc.canOpenSession() {
		return nil, errors.New("only playlists open sessions; other requests are refused without a check")
	}
	rc.credentials = credentialsOf(&t, req, req.Query, g.options.Config.Tickets.Parameter)
	if name := t.route.missing(&rc.credentials); name != "" {
		return nil, fmt.Errorf("the credential %s is missing, so the viewer is refused without a check", name)
	}
	rc.id = g.hasher.sessionID(&t, &rc.credentials, req, rc.viewer)
	return g.newBackendRequest(&rc), nil
}

// viewerTarget returns the target of a viewer's request, here or at an edge.
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
