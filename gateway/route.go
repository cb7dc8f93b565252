package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"usher/gateway/hls"
	"usher/gateway/origin"
)

// route is one kind of path that viewers ask for, ready for use.
type route struct {
	name    string
	config  RouteConfig
	places  []place // the first one opens sessions
	door    *door   // where an edge asks; nil: the route serves media
	hosts   []string
	origin  *origin.Origin
	sources []string // scheme://host of the origin's addresses, lower case
	prefix  string   // of the origin's address, before every path on it
	byFacts identityFacts
	// unplaced: a playlist of the route has named what no place of it serves.
	unplaced atomic.Bool
}

// place is a pattern for viewers' paths with what it stands for on the origin.
type place struct {
	viewer, origin *pattern
	same           bool
}

// identityFacts are what tells sessions apart beside credentials.
type identityFacts struct{ address, agent, playback, edgeSession bool }

// newRoute compiles a route. Errors begin with the key within the route.
func newRoute(c RouteConfig, o *origin.Origin) (*route, error) {
	r := &route{name: c.name(), config: c, origin: o, byFacts: identityFacts{
		address:  slices.Contains(c.IdentityFields, identityAddress),
		agent:    slices.Contains(c.IdentityFields, identityAgent),
		playback: slices.Contains(c.IdentityFields, identityPlayback),

		edgeSession: slices.Contains(c.IdentityFields, identityEdgeSession),
	}}
	for _, h := range c.Hosts {
		r.hosts = append(r.hosts, strings.ToLower(h))
	}
	r.config.CredentialHeaders = nil
	for _, h := range c.CredentialHeaders {
		r.config.CredentialHeaders = append(r.config.CredentialHeaders, http.CanonicalHeaderKey(h))
	}
	if c.Edge != nil {
		return r, r.openDoor()
	}
	main, err := newPlace(PlaceConfig{Path: c.Path, OriginPath: c.OriginPath})
	if err != nil {
		return nil, err
	}
	r.places = append(r.places, main)
	for i, m := range c.Media {
		p, err := newPlace(m)
		if err != nil {
			return nil, fmt.Errorf("media[%d].%w", i, err)
		}
		r.places = append(r.places, p)
	}
	return r, nil
}

func newPlace(c PlaceConfig) (place, error) {
	viewer, err := parsePattern(c.Path)
	if err != nil {
		return place{}, fmt.Errorf("path: %w", err)
	}
	if c.OriginPath == "" || c.OriginPath == c.Path {
		return place{viewer: viewer, origin: viewer, same: true}, nil
	}
	there, err := parsePattern(c.OriginPath)
	if err != nil {
		return place{}, fmt.Errorf("origin_path: %w", err)
	}
	for _, name := range there.names {
		if viewer.index(name) < 0 {
			return place{}, fmt.Errorf("origin_path: {%s} is not in path %q", name, c.Path)
		}
	}
	return place{viewer: viewer, origin: there}, nil
}

// setSources notes the origin's addresses, for telling its absolute URIs from foreign ones.
func (r *route) setSources(urls []*url.URL) {
	for _, u := range urls {
		r.sources = append(r.sources, strings.ToLower(u.Scheme+"://"+hostPort(u.Scheme, u.Host)))
	}
	if len(urls) > 0 {
		r.prefix = strings.TrimSuffix(urls[0].EscapedPath(), "/")
	}
}

// hostPort is the host without the port that its scheme implies.
func hostPort(scheme, host string) string {
	name, port, err := net.SplitHostPort(host)
	if err == nil && (scheme == "http" && port == "80" || scheme == "https" && port == "443") {
		return name
	}
	return host
}

// sameOrigin reports whether an absolute URI leads to the route's origin.
func (r *route) sameOrigin(scheme, host string) bool {
	return slices.Contains(r.sources, scheme+"://"+hostPort(scheme, host))
}

// servesHost reports whether the route is for that host, given as the Host header field.
func (r *route) servesHost(host string) bool {
	if len(r.hosts) == 0 {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return slices.Contains(r.hosts, strings.ToLower(host))
}

// target is a path that a route serves.
type target struct {
	route   *route
	place   *place
	index   int  // of the place in the route
	opens   bool // the place is one at which credentials count
	match   match
	channel string
	path    string // the viewer's, without ticket
}

// nextPlace moves on to the next place of the route that serves the path too, if there is one.
func (t *target) nextPlace() bool { return t.at(t.route, t.index+1) }

// at looks for the first place of the route, from the index on, that serves the path.
func (t *target) at(r *route, index int) bool {
	for i := index; i < len(r.places); i++ {
		p := &r.places[i]
		if m, ok := p.viewer.match(t.path); ok {
			*t = target{
				route: r, place: p, index: i, opens: i == 0, match: m, path: t.path,
				channel: unescape(p.viewer.value(m, channelVariable)),
			}
			return true
		}
	}
	return false
}

// findTarget looks for the route of a path, escaped as it came. At the door of an edge the target is the route alone:
// what a viewer wants there is to be read.
func findTarget(routes []*route, host, path string) (target, bool) {
	t := target{path: path}
	for _, r := range routes {
		switch {
		case r.door != nil && r.door.isAt(path):
			return target{route: r, path: path}, true
		case r.door == nil && r.servesHost(host) && t.at(r, 0):
			return t, true
		}
	}
	return target{}, false
}

// unescape decodes a part of a path. What cannot be decoded stays as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	plain, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return plain
}

// originPath is the path on the origin.
func (t *target) originPath() string {
	if t.place.same {
		return t.path
	}
	path, _ := t.place.origin.expand(t.place.viewer, t.match) // newPlace saw to the variables
	return path
}

// locate is where viewers find what the origin has at that reference (path and query). It is not found if no place of
// the route serves it.
func (r *route) locate(ref string) (string, bool) {
	path, query, hasQuery := strings.Cut(ref, "?")
	path, found := strings.CutPrefix(path, r.prefix)
	if !found {
		return "", false
	}
	for i := range r.places {
		p := &r.places[i]
		m, ok := p.origin.match(path)
		if !ok {
			continue
		}
		if !p.same {
			if path, ok = p.viewer.expand(p.origin, m); !ok {
				continue
			}
		}
		if hasQuery {
			path += "?" + query
		}
		return path, true
	}
	return "", false
}

// isPlaylist reports whether a path names a playlist.
func isPlaylist(path string) bool {
	return hasSuffixFold(path, ".m3u8") || hasSuffixFold(path, ".m3u")
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

// carriesInPath reports whether playlists below a ticket in the path are a thing of the route's.
func (r *route) carriesInPath() bool {
	return r.config.TicketIn == hls.TicketInPath || r.config.TicketIn == hls.TicketInNone
}
