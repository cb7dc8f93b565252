package gateway

import (
	"errors"
	"fmt"
	"time"

	"usher/backends"
)

// Question is what a backend would be asked about a viewer who comes without a ticket. The error says why nobody would
// be asked at all.
func (e *Edge) Question(v *View) (*backends.Request, error) {
	if !cleanPath(v.Path) {
		return nil, errors.New("the path has dot segments, encoded slashes or control characters")
	}
	who := clientOf(v, e.trusted)
	t, found := findTarget(e.routes, who.host, v.Path)
	if !found {
		return nil, errors.New("no route for this path and host")
	}
	visit := visit{view: v, target: t, who: who, isPlaylist: isPlaylist(v.Path), now: time.Now()}
	if !t.opens || !(visit.isPlaylist || t.route.config.CredentialsEverywhere) {
		return nil, errors.New("only playlists open sessions; anything else is refused without asking")
	}
	visit.credentials = credentialsOf(&t, v, e.o.Config.Tickets.Parameter)
	if name := t.route.missing(&visit.credentials); name != "" {
		return nil, fmt.Errorf("the credential %s is missing, so the viewer is refused without asking", name)
	}
	visit.id = e.identifier.sessionID(&t, &visit.credentials, v, visit.who, 0)
	return e.question(&visit), nil
}
