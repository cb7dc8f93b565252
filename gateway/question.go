package gateway

import (
	"errors"
	"fmt"

	"usher/backends"
	"usher/gateway/authz"
)

// Question is what a backend would be asked about a viewer who comes without a ticket, to us or to an edge that asks us.
// channel is the edge's own name of it, if it has one. The error says why nobody would be asked at all.
func (g *Gateway) Question(v *View, channel string) (*backends.Request, error) {
	if !cleanPath(v.Path) {
		return nil, errors.New(unclean)
	}
	who := clientOf(v, g.trusted)
	t, found := g.viewerTarget(v, who, channel)
	if !found {
		return nil, errors.New("no route for this path and host")
	}
	visit := visitOf(v, t, who)
	if d := t.route.door; d != nil {
		visit.isPlaylist = visit.isPlaylist || d.dialect.KeepsSessions()
	}
	if !visit.mayOpen() {
		return nil, errors.New("only playlists open sessions; anything else is refused without asking")
	}
	visit.credentials = credentialsOf(&t, v, v.Query, g.o.Config.Tickets.QueryParameter)
	if name := t.route.missing(&visit.credentials); name != "" {
		return nil, fmt.Errorf("the credential %s is missing, so the viewer is refused without asking", name)
	}
	visit.id = g.identifier.sessionID(&t, &visit.credentials, v, visit.who, 0)
	return g.question(&visit), nil
}

// viewerTarget is what a viewer wants, here or at an edge.
func (g *Gateway) viewerTarget(v *View, who client, channel string) (target, bool) {
	q := authz.Question{Host: who.host, Path: v.Path, Channel: channel}
	for _, r := range g.routes {
		if r.door != nil {
			if t, found := r.edgeTarget(&q); found {
				return t, true
			}
			continue
		}
		if t := (target{path: v.Path}); r.servesHost(who.host) && t.at(r, 0) {
			return t, true
		}
	}
	return target{}, false
}
