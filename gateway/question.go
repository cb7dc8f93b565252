package gateway

import (
	"errors"
	"fmt"

	"usher/backends"
)

// Question is what a backend would be asked about a viewer who comes without a ticket. The error says why nobody would
// be asked at all.
func (e *Edge) Question(v *View) (*backends.Request, error) {
	if !cleanPath(v.Path) {
		return nil, errors.New(unclean)
	}
	who := clientOf(v, e.trusted)
	t, found := findTarget(e.routes, who.host, v.Path)
	if !found {
		return nil, errors.New("no route for this path and host")
	}
	visit := visitOf(v, t, who)
	if !visit.mayOpen() {
		return nil, errors.New("only playlists open sessions; anything else is refused without asking")
	}
	visit.credentials = credentialsOf(&t, v, v.Query, e.o.Config.Tickets.Parameter)
	if name := t.route.missing(&visit.credentials); name != "" {
		return nil, fmt.Errorf("the credential %s is missing, so the viewer is refused without asking", name)
	}
	visit.id = e.identifier.sessionID(&t, &visit.credentials, v, visit.who, 0)
	return e.question(&visit), nil
}
