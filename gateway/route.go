package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/gateway/edge"
	"usher/gateway/evictions"
	"usher/gateway/hls"
	"usher/gateway/origin"
	"usher/gateway/ticket"
	"usher/gateway/urlpath"
)

// route is a compiled RouteConfig.
type route struct {
	name     string
	source   RouteConfig // as the settings have it
	config   RouteConfig
	mappings []pathMapping  // the first one opens sessions
	endpoint *edge.Endpoint // where an edge asks; nil: the route serves media
	hosts    []string
	origin   *origin.Origin
	identity identityFields
	devices  []deviceField
	// placesNameViewers: every pattern below which references are written has credentials of the viewer.
	placesNameViewers bool
	// warned are the warnings that were written about playlists of the route, by what they are about.
	warned *otter.Cache[string, struct{}]
	// tooLong counts URIs beyond tickets.max_uri.
	tooLong atomic.Uint64
	// entries holds the folder in which each channel was opened, until a warning was written of one opened in two.
	entries          *otter.Cache[string, string]
	hasWarnedEntries atomic.Bool
	// evicted counts what warned and entries gave up.
	evicted evictions.Counter
}

// pathMapping maps viewers' paths to paths on the origin.
type pathMapping struct {
	viewer, origin *pattern
	isIdentity     bool
}

// identityFields tell sessions apart beside credentials.
type identityFields struct{ agent, playback bool }

// deviceField is one of RouteConfig.DeviceFields: a query parameter as it is written, and a header field by its canonical name.
type deviceField struct{ parameter, header string }

// maxEntries bounds how many channels of a route are watched for a second entry.
const maxEntries = 10_000

// maxWarned bounds how many warnings of a route are remembered.
const maxWarned = 1000

// newRoute compiles a route. Errors begin with the key within the route.
func newRoute(c RouteConfig, o *origin.Origin) (*route, error) {
	r := &route{name: c.name(), source: c, config: c, origin: o, identity: identityFields{
		agent:    slices.Contains(c.IdentityFields, identityAgent),
		playback: slices.Contains(c.IdentityFields, identityPlayback),
	}}
	for _, h := range c.Hosts {
		r.hosts = append(r.hosts, strings.ToLower(h))
	}
	r.warned = otter.Must(&otter.Options[string, struct{}]{
		MaximumSize: maxWarned, OnAtomicDeletion: evictions.Of[string, struct{}](&r.evicted),
	})
	r.entries = otter.Must(&otter.Options[string, string]{MaximumSize: maxEntries, OnAtomicDeletion: evictions.Of[string, string](&r.evicted)})
	r.config.CredentialHeaders = nil
	for _, h := range c.CredentialHeaders {
		r.config.CredentialHeaders = append(r.config.CredentialHeaders, http.CanonicalHeaderKey(h))
	}
	for _, name := range c.DeviceFields {
		r.devices = append(r.devices, deviceField{name, http.CanonicalHeaderKey(name)})
	}
	if c.Edge != nil {
		return r, r.addEndpoint()
	}
	main, err := newPathMapping(PathMappingConfig{Path: c.Path, OriginPath: c.OriginPath})
	if err != nil {
		return nil, err
	}
	r.mappings = append(r.mappings, main)
	for i, m := range c.Media {
		p, err := newPathMapping(m)
		if err != nil {
			return nil, fmt.Errorf("media[%d].%w", i, err)
		}
		if p.viewer.isDeep != main.viewer.isDeep {
			return nil, fmt.Errorf("media[%d].path: %q and the route's path %q must both have {channel}, or both {channel...}", i, m.Path, c.Path)
		}
		r.mappings = append(r.mappings, p)
	}
	r.placesNameViewers = !slices.ContainsFunc(r.mappings, func(m pathMapping) bool {
		return m.viewer.index(restVariable) >= 0 && !m.viewer.hasCredentials()
	})
	return r, nil
}

func newPathMapping(c PathMappingConfig) (pathMapping, error) {
	viewer, err := parseViewer(c.Path)
	if err != nil {
		return pathMapping{}, fmt.Errorf("path: %w", err)
	}
	if c.OriginPath == "" || c.OriginPath == c.Path {
		return pathMapping{viewer: viewer, origin: viewer, isIdentity: true}, nil
	}
	there, err := parsePattern(c.OriginPath)
	if err != nil {
		return pathMapping{}, fmt.Errorf("origin_path: %w", err)
	}
	if there.isDeep != viewer.isDeep {
		return pathMapping{}, fmt.Errorf("origin_path: %q and path %q must both have {channel}, or both {channel...}", c.OriginPath, c.Path)
	}
	for _, name := range there.names {
		if viewer.index(name) < 0 {
			return pathMapping{}, fmt.Errorf("origin_path: {%s} is not in path %q", name, c.Path)
		}
	}
	return pathMapping{viewer: viewer, origin: there}, nil
}

// servesHost reports whether the route serves a host, given as the Host header field.
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
	route        *route
	mapping      *pathMapping
	index        int  // of the mapping in the route
	opensSession bool // credentials open a session here
	match        match
	channel      string
	// folder is the folder below the channel that the session or its ticket opens, with all below it; empty: the whole
	// channel. It is the entry's until a ticket says another one. depth is as in [ticket.Scope].
	folder string
	depth  int
	path   string // the viewer's, without ticket
}

// nextMapping sets the next mapping of the route that matches the path too, and reports whether there is one.
func (t *target) nextMapping() bool { return t.matchFrom(t.route, t.index+1) }

// matchFrom sets the first mapping of the route, from the index on, that matches the path, and reports whether there is
// one.
func (t *target) matchFrom(r *route, index int) bool {
	for i := index; i < len(r.mappings); i++ {
		p := &r.mappings[i]
		if m, ok := p.viewer.match(t.path); ok {
			*t = target{
				route: r, mapping: p, index: i, opensSession: i == 0, match: m, path: t.path,
				channel: unescape(p.viewer.value(m, channelVariable)),
			}
			t.enter()
			return true
		}
	}
	return false
}

// scope returns what a ticket for the target is valid for.
func (t *target) scope() ticket.Scope {
	return ticket.Scope{Route: t.route.name, Channel: t.channel, Folder: t.folder, Depth: t.depth}
}

// newRoute makes a route, or returns the present one if its settings and its origin are the same. g may be nil.
func (g *Gateway) newRoute(c RouteConfig, from *origin.Origin) (*route, error) {
	if g != nil {
		for _, r := range g.routes {
			if r.origin == from && reflect.DeepEqual(r.source, c) {
				return r, nil
			}
		}
	}
	return newRoute(c, from)
}

// addEndpoint completes a route for an edge. Errors begin with the key within the route.
func (r *route) addEndpoint() error {
	c := r.config.Edge
	r.endpoint = edge.NewEndpoint(c, r.config.Path)
	if r.endpoint.Matching() == edge.MatchByCookie {
		r.config.TicketIn = hls.TicketInCookie
	}
	if c.Dialect != edge.Envoy {
		at, err := parsePath(r.config.Path)
		if err == nil {
			err = at.validateViewer()
		}
		if err != nil {
			return fmt.Errorf("path: %w", err)
		}
		if len(at.names) > 1 || len(at.names) == 1 && at.names[0] != restVariable {
			return fmt.Errorf("path: %q is the edge's own path; only a * at its end may vary", r.config.Path)
		}
	}
	viewer, err := parsePath("/*")
	if c.ViewerPath != "" {
		viewer, err = parseViewer(c.ViewerPath)
	}
	if err != nil {
		return fmt.Errorf("edge.viewer_path: %w", err)
	}
	r.mappings = []pathMapping{{viewer: viewer, origin: viewer, isIdentity: true}}
	return nil
}

// extraLifetime returns how long the route's sessions outlive their decision; zero for a route that serves media.
func (r *route) extraLifetime() time.Duration {
	if r.endpoint == nil {
		return 0
	}
	return r.config.Edge.ExtraLifetime
}

// edgeTarget returns the target of a viewer at an edge. The channel is the edge's name of it, else the one in the path.
func (r *route) edgeTarget(q *edge.CheckRequest) (target, bool) {
	t := target{path: q.Path}
	if t.path == "" {
		t.path = "/"
	}
	if !r.servesHost(q.Host) || !t.matchFrom(r, 0) {
		return target{}, false
	}
	switch {
	case q.Channel != "":
		t.channel, t.folder, t.depth = q.Channel, "", 0
	case r.config.Edge.ViewerPath == "":
		t.channel, t.folder, t.depth = urlpath.MergeSlashes(t.path), "", 0
	}
	return t, true
}

// findTarget finds the route of a path, escaped as it came. For an edge's endpoint the target has the route alone: what
// the viewer wants is in the edge's request. It sets t, and reports whether there is a route.
func findTarget(routes []*route, host, path string, t *target) bool {
	*t = target{path: path}
	for _, r := range routes {
		switch {
		case r.endpoint != nil && r.endpoint.MatchesPath(path):
			t.route = r
			return true
		case r.endpoint == nil && r.servesHost(host) && t.matchFrom(r, 0):
			return true
		}
	}
	return false
}

// unescape decodes a part of a path. Text that cannot be decoded stays as it is.
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

// originPath returns the path on the origin.
func (t *target) originPath() string {
	if t.mapping.isIdentity {
		return t.path
	}
	viewer := t.mapping.viewer
	path, _ := t.mapping.origin.expand(viewer, viewer.unmerge(t.path, t.match)) // newPathMapping saw to the variables
	return path
}

// viewerPath returns the viewer's path of a path on the origin.
func (m *pathMapping) viewerPath(path string) (string, bool) {
	found, ok := m.origin.match(path)
	if !ok || m.isIdentity {
		return path, ok
	}
	return m.viewer.expand(m.origin, found)
}

// roleOf returns the role that a viewer's path shows.
func (r *route) roleOf(path string) hls.Role {
	role := roleOfName(path)
	if role != hls.Playlist && r.isEntry(path) {
		return hls.Playlist
	}
	return role
}

// isEntry reports whether the route says that a path is a playlist's, whatever its name.
func (r *route) isEntry(path string) bool {
	if !r.config.Playlist {
		return false
	}
	_, ok := r.mappings[0].viewer.match(path)
	return ok
}

// isPlaylist reports whether the target's path is a playlist's.
func (t *target) isPlaylist() bool {
	return isPlaylist(t.path) || t.index == 0 && t.route.config.Playlist
}

// isPlaylist reports whether a path names a playlist.
func isPlaylist(path string) bool {
	return hasSuffixFold(path, ".m3u8") || hasSuffixFold(path, ".m3u")
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

// acceptsTicketInPath reports whether a ticket may stand in front of the route's paths.
func (r *route) acceptsTicketInPath() bool {
	return r.config.TicketIn == hls.TicketInPath || r.config.TicketIn == hls.TicketInNone
}
