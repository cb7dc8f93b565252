package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"usher/backends/setting"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/hls"
)

// RouteConfig configures one kind of path that viewers ask for.
type RouteConfig struct {
	// Name is logged and is part of every session id and ticket, so it must not change. If empty it is the path.
	Name string `yaml:"name"`
	// Path is the pattern of viewers' paths, such as "/play/{channel}/*". A variable other than {channel} is a credential:
	// "/live/{user}/{password}/{channel}.m3u8".
	Path string `yaml:"path"`
	// OriginPath is the path on the origin. If empty it is the viewer's.
	OriginPath string `yaml:"origin_path"`
	// Playlist says that all of Path are playlists, whatever their names. Else the name must end in .m3u8 or .m3u, unless a
	// playlist lists it.
	Playlist bool `yaml:"playlist"`
	// Media are further patterns, for media that the route's playlists list. They always need a ticket.
	Media []PathMappingConfig `yaml:"media"`
	// Hosts are the host names that the route serves. If empty it serves all.
	Hosts   []string `yaml:"hosts"`
	Origin  string   `yaml:"origin"`
	Backend string   `yaml:"backend"`
	// TicketIn is how the ticket is transported.
	TicketIn hls.TicketTransport `yaml:"ticket_in"`
	// OnNewAddress is what a ticket opens that is used from another address than the one for which it was issued.
	OnNewAddress NewAddressPolicy `yaml:"on_new_address"`
	// IdentityFields tell sessions apart beside credentials and address: user_agent, and playback_session (the
	// X-Playback-Session-Id of Apple's players, in place of the agent). At edges the edge's own id of the session does, too:
	// see edge.Config.SessionID.
	IdentityFields []string `yaml:"identity_fields"`
	// Credentials are the query parameters that a backend decides on. If empty, all are. CredentialHeaders are header fields
	// that count as well.
	Credentials       []string `yaml:"credentials"`
	CredentialHeaders []string `yaml:"credential_headers"`
	// Required are credentials without which a request gets 403 and no backend is asked.
	Required []string `yaml:"required"`
	// IgnoreQuery are parameters that are not credentials.
	IgnoreQuery []string `yaml:"ignore_query"`
	// ForwardQuery are the viewer's parameters that are sent to the origin, such as start and duration of an archive.
	ForwardQuery []string `yaml:"forward_query"`
	// DeviceFields are query parameters or header fields that together tell a user's devices apart, such as mac. A device
	// plays one stream, so zapping never counts as several streams. If empty, each address counts as a device. The fields
	// are not credentials unless Credentials names them as well.
	DeviceFields []string `yaml:"device_fields"`
	// Enforce is whether viewers who may not watch are refused. If not, they are served, logged and counted.
	Enforce enforcement.Mode `yaml:"enforce"`
	// CredentialsEverywhere lets credentials open a session on any URI, for players that put them on every one.
	CredentialsEverywhere bool `yaml:"credentials_everywhere"`
	// Edge makes the route one at which an edge asks whether a viewer may watch. If nil the route serves media.
	Edge *edge.Config `yaml:"edge,omitempty"`
}

// PathMappingConfig maps viewers' paths to paths on the origin. If OriginPath is empty they are the same.
type PathMappingConfig struct {
	Path       string `yaml:"path"`
	OriginPath string `yaml:"origin_path"`
}

// The fields that may tell sessions apart, as RouteConfig.IdentityFields spells them.
const (
	identityAddress  = "address" // always part of the identity; named, it changes nothing
	identityAgent    = "user_agent"
	identityPlayback = "playback_session"
	// identityEdgeSession is the identity's at edges that send one, unless edge.session_id says otherwise; named, it changes
	// nothing.
	identityEdgeSession = "edge_session"
)

func (c Config) validateRoute(key string, r RouteConfig, backends []string) error {
	var errs []error
	if _, err := newRoute(r, nil); err != nil {
		errs = append(errs, fmt.Errorf("%s.%w", key, err))
	}
	if r.Edge != nil {
		errs = append(errs, r.validateEdge(key, backends))
	} else if c.Origins[r.Origin] == nil {
		errs = append(errs, fmt.Errorf("%s.origin: %q is not among origins%s", key, r.Origin,
			setting.Hint(r.Origin, slices.Collect(maps.Keys(c.Origins)))))
	}
	if !slices.Contains(backends, r.Backend) {
		errs = append(errs, fmt.Errorf("%s.backend: %q is not among backends%s", key, r.Backend, setting.Hint(r.Backend, backends)))
	}
	for i, f := range r.IdentityFields {
		if known := r.knownIdentityFields(); !slices.Contains(known, f) {
			errs = append(errs, fmt.Errorf("%s.identity_fields[%d]: %q is unknown; want one of %s", key, i, f, strings.Join(known, ", ")))
		}
	}
	errs = append(errs, r.validateHosts(key), r.validateCredentials(key, c.Tickets.Parameter), r.validateRequired(key, c.Tickets.Parameter),
		r.validateDevice(key), r.validateHeaders(key))
	if i := slices.Index(r.ForwardQuery, c.Tickets.Parameter); i >= 0 {
		errs = append(errs, fmt.Errorf("%s.forward_query[%d]: %q is tickets.parameter: a viewer's ticket reaches no origin", key, i, c.Tickets.Parameter))
	}
	if r.TicketIn == hls.TicketInCookie && slices.Contains(c.CORS.AllowedOrigins, "*") {
		errs = append(errs, fmt.Errorf(`%s.ticket_in: cookie needs cors.allowed_origins to list the players' origins; browsers send no cookie to "*"`, key))
	}
	return errors.Join(errs...)
}

// warnings says what the route's allowed settings cost.
func (r RouteConfig) warnings(key string) error {
	var errs []error
	if r.Enforce == enforcement.Unenforced {
		errs = append(errs, fmt.Errorf("%s.enforce: false serves every viewer, banned and kicked ones too, and logs who would be refused; "+
			"set it to true once the log is as expected", key))
	}
	if r.OnNewAddress == ShareSession {
		errs = append(errs, fmt.Errorf("%s.on_new_address: share lets further addresses use a decision that the backend made about one; "+
			"a backend that decides by address wants check", key))
	}
	if r.TicketIn == hls.TicketInNone {
		errs = append(errs, fmt.Errorf("%s.ticket_in: none serves segments and keys to everybody who knows their URIs; "+
			"let what stands in front of this node check a token of its own", key))
	}
	if r.Edge == nil {
		if !r.hasPlace() {
			errs = append(errs, fmt.Errorf("%s.path: no pattern of this route ends in /*, so what a playlist lists outside of them stays as it is, "+
				`and players go past the gateway or fail; add one to media, such as { path: "/media/{channel}/*" }`, key))
		}
		return errors.Join(errs...)
	}
	for i, n := range r.Edge.Networks {
		if setting.IsEverybody(n) {
			errs = append(errs, fmt.Errorf("%s.edge.networks[%d]: %s lets everybody ask as an edge: they try tokens, and report any address "+
				"of a viewer; list your edges alone", key, i, n))
		}
	}
	if r.Edge.MatchBy == edge.MatchByPlaylistsOnly {
		errs = append(errs, fmt.Errorf("%s.edge.match_by: playlists-only allows segments and keys to everybody who knows their URIs", key))
	}
	return errors.Join(errs...)
}

// hasPlace reports whether references can be written below a pattern of the route.
func (r RouteConfig) hasPlace() bool {
	return strings.HasSuffix(r.Path, "/*") || slices.ContainsFunc(r.Media, func(m PathMappingConfig) bool { return strings.HasSuffix(m.Path, "/*") })
}

func (r RouteConfig) validateHosts(key string) error {
	var errs []error
	for i, h := range r.Hosts {
		if strings.Trim(h, nameCharacters+".") != "" || h == "" {
			errs = append(errs, fmt.Errorf("%s.hosts[%d]: %q: want a host name without scheme and port", key, i, h))
		}
	}
	return errors.Join(errs...)
}

// validateCredentials finds named credentials that reach no backend.
func (r RouteConfig) validateCredentials(key, ticketParameter string) error {
	var errs []error
	for i, name := range r.Credentials {
		if !r.PassesParameter(name, ticketParameter) {
			errs = append(errs, fmt.Errorf("%s.credentials[%d]: %q reaches no backend: it is in ignore_query, or is tickets.parameter or one "+
				"that is never a credential", key, i, name))
		}
	}
	return errors.Join(errs...)
}

// validateRequired finds required credentials that no viewer could ever show.
func (r RouteConfig) validateRequired(key, ticketParameter string) error {
	var errs []error
	for i, name := range r.Required {
		if !r.PassesParameter(name, ticketParameter) && !r.PassesHeader(name) {
			errs = append(errs, fmt.Errorf("%s.required[%d]: %q is no credential of the route's", key, i, name))
		}
	}
	return errors.Join(errs...)
}

// validateHeaders finds credentials that no backend would get: what is no header field, or belongs to a connection.
func (r RouteConfig) validateHeaders(key string) error {
	var errs []error
	for i, name := range r.CredentialHeaders {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			errs = append(errs, fmt.Errorf("%s.credential_headers[%d]: %q is no name of a header field", key, i, name))
		case setting.IsReplacedHeader(name):
			errs = append(errs, fmt.Errorf("%s.credential_headers[%d]: %q never reaches a backend as the viewer sent it: Usher or the connection sets it; "+
				"want a field that only viewers send", key, i, name))
		}
	}
	return errors.Join(errs...)
}

func (r RouteConfig) validateDevice(key string) error {
	var errs []error
	for i, name := range r.DeviceFields {
		switch {
		case strings.Trim(name, nameCharacters) != "" || name == "":
			errs = append(errs, fmt.Errorf("%s.device_fields[%d]: %q: want the name of a query parameter or of a header field", key, i, name))
		case slices.Contains(r.DeviceFields[:i], name):
			errs = append(errs, fmt.Errorf("%s.device_fields[%d]: %q is named twice", key, i, name))
		}
	}
	return errors.Join(errs...)
}

// validateEdge returns an error for every invalid setting of a route at which an edge asks.
func (r RouteConfig) validateEdge(key string, backends []string) error {
	errs := []error{r.Edge.Validate(key+".edge", backends)}
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(key+"."+format, args...))
		}
	}
	d := r.Edge.Dialect
	wrong(d == edge.Envoy && r.Path != "", "path: envoy asks at ext_authz.listen; leave it out")
	wrong(d.KeepsSessions() && len(r.CredentialHeaders) > 0,
		"credential_headers: %s passes none of a viewer's on", d)
	wrong(d.KeepsSessions() && slices.Contains(r.IdentityFields, identityPlayback),
		"identity_fields: %s: %s passes no header of a viewer's on", identityPlayback, d)
	const asksAboutAll = ": has no effect: %s asks about each of its sessions, whatever the path"
	wrong(d.KeepsSessions() && r.Playlist, "playlist"+asksAboutAll, d)
	wrong(d.KeepsSessions() && r.CredentialsEverywhere, "credentials_everywhere"+asksAboutAll, d)
	wrong(d.KeepsSessions() && r.OnNewAddress == RefuseNewAddress,
		"on_new_address: refuse has no effect: %s passes no ticket on, and asks about each of its sessions", d)
	wrong(!d.KeepsSessions() && r.OnNewAddress == RefuseNewAddress && r.Edge.MatchBy == edge.MatchByPlaylistsOnly,
		"on_new_address: refuse has no effect beside match_by: playlists-only, which checks no request that needs a session")
	for _, field := range []struct {
		key string
		set bool
	}{
		{"origin", r.Origin != ""},
		{"origin_path", r.OriginPath != ""},
		{"media", len(r.Media) > 0},
		{"ticket_in", r.TicketIn != hls.TicketInPath},
		{"forward_query", len(r.ForwardQuery) > 0},
	} {
		wrong(field.set, "%s: has no place beside edge, whose media server serves the media", field.key)
	}
	return errors.Join(errs...)
}

// validateEndpoints finds routes with one path and overlapping networks but two dialects, of which only one would work, and those at
// which no edge asks, since an earlier one answers all that it could.
func (c Config) validateEndpoints() error {
	var errs []error
	for i, r := range c.Routes {
		for j, other := range c.Routes[:i] {
			if r.Edge == nil || other.Edge == nil || r.Path != other.Path {
				continue
			}
			if r.Edge.Dialect == other.Edge.Dialect {
				if r.name() != other.name() && other.answersFor(r) {
					errs = append(errs, fmt.Errorf("routes[%d].edge.viewer_path: %q: all checks of these networks go to routes[%d], which has this path or "+
						"none; give each route its own", i, r.Edge.ViewerPath, j))
				}
				continue
			}
			if slices.ContainsFunc(r.Edge.Networks, func(n netip.Prefix) bool {
				return slices.ContainsFunc(other.Edge.Networks, n.Overlaps)
			}) {
				errs = append(errs, fmt.Errorf("routes[%d].path: %q is asked by the same networks in another dialect at routes[%d]",
					i, r.Path, j))
			}
		}
	}
	return errors.Join(errs...)
}

// answersFor reports whether a route at which the same edges ask in the same dialect answers all checks that another one could.
func (r RouteConfig) answersFor(other RouteConfig) bool {
	isCovered := func(n netip.Prefix) bool {
		return slices.ContainsFunc(r.Edge.Networks, func(own netip.Prefix) bool { return own.Bits() <= n.Bits() && own.Overlaps(n) })
	}
	own, theirs := PathMappingConfig{Path: r.Edge.ViewerPath}, PathMappingConfig{Path: other.Edge.ViewerPath}
	return (own.Path == "" || own.matched() == theirs.matched()) &&
		r.servesAll(other.Hosts) && !slices.ContainsFunc(other.Edge.Networks, func(n netip.Prefix) bool { return !isCovered(n) })
}

// validatePatterns finds patterns that an earlier route has too, to which all requests go. Unprotected media may be served by either.
func (c Config) validatePatterns() error {
	var errs []error
	for i, r := range c.Routes {
		for j, earlier := range c.Routes[:i] {
			isSame := r.name() == earlier.name() // which is refused for that
			if r.Edge != nil || earlier.Edge != nil || isSame || !earlier.servesAll(r.Hosts) {
				continue
			}
			for k, own := range r.pathMappings() {
				if !earlier.hasPattern(own) || k > 0 && earlier.servesAlike(r, own) {
					continue
				}
				key := "path"
				if k > 0 {
					key = fmt.Sprintf("media[%d].path", k-1)
				}
				errs = append(errs, fmt.Errorf("routes[%d].%s: %q: all requests that match it go to routes[%d], which has the same pattern; "+
					"give each route its own", i, key, own.Path, j))
			}
		}
	}
	return errors.Join(errs...)
}

// hasPattern reports whether the route has a pattern of another route.
func (r RouteConfig) hasPattern(p PathMappingConfig) bool {
	return slices.ContainsFunc(r.pathMappings(), func(own PathMappingConfig) bool { return own.matched() == p.matched() })
}

// servesAlike reports whether the route serves another's media as that would: without a ticket, which references need, and from the same place.
func (r RouteConfig) servesAlike(other RouteConfig, media PathMappingConfig) bool {
	return r.TicketIn == hls.TicketInNone && other.TicketIn == hls.TicketInNone && r.Origin == other.Origin && other.pathMappings()[0].isPlace() &&
		slices.ContainsFunc(r.pathMappings(), func(own PathMappingConfig) bool {
			return own.matched() == media.matched() && own.fetched() == media.fetched() && !(r.Playlist && own.Path == r.Path)
		})
}

// pathMappings returns the route's path, and those of its media.
func (r RouteConfig) pathMappings() []PathMappingConfig {
	return slices.Concat([]PathMappingConfig{{Path: r.Path, OriginPath: r.OriginPath}}, r.Media)
}

// servesAll reports whether the route serves each of another route's hosts; none stands for all.
func (r RouteConfig) servesAll(hosts []string) bool {
	isServed := func(host string) bool {
		return slices.ContainsFunc(r.Hosts, func(own string) bool { return strings.EqualFold(own, host) })
	}
	return len(r.Hosts) == 0 || len(hosts) > 0 && !slices.ContainsFunc(hosts, func(host string) bool { return !isServed(host) })
}

// name returns the route's name, by default its path.
func (r RouteConfig) name() string {
	switch {
	case r.Name != "":
		return r.Name
	case r.Edge != nil && r.Edge.ViewerPath != "":
		return strings.TrimSpace(r.Path + " " + r.Edge.ViewerPath)
	default:
		return r.Path
	}
}

// RenamedRoutes returns an error for each route that has the place of one before under another name: all tickets of its viewers are for the
// name before.
func (c Config) RenamedRoutes(before Config) error {
	var errs []error
	for i, r := range c.Routes {
		for _, old := range before.Routes {
			if !old.isInPlaceOf(r) || before.hasInPlaceOf(r, r.name()) || c.hasInPlaceOf(old, old.name()) {
				continue
			}
			errs = append(errs, fmt.Errorf("routes[%d].name: changed from %s to %s, which ends all tickets of the route and needs a restart; "+
				"undo the change or restart the node", i, old.name(), r.name()))
		}
	}
	return errors.Join(errs...)
}

// hasInPlaceOf reports whether there is a route of that name with the place of another one.
func (c Config) hasInPlaceOf(other RouteConfig, name string) bool {
	return slices.ContainsFunc(c.Routes, func(r RouteConfig) bool { return r.name() == name && r.isInPlaceOf(other) })
}

// isInPlaceOf reports whether the routes have the same paths and hosts and, of edges, may be asked by the same ones.
func (r RouteConfig) isInPlaceOf(other RouteConfig) bool {
	sharesEdge := func() bool {
		return slices.ContainsFunc(r.Edge.Networks, func(n netip.Prefix) bool { return slices.ContainsFunc(other.Edge.Networks, n.Overlaps) })
	}
	return r.place() == other.place() && (r.Edge == nil) == (other.Edge == nil) && (r.Edge == nil || sharesEdge())
}

// place returns the paths and hosts of the route, whatever the order and the case in which its settings name them.
func (r RouteConfig) place() string {
	hosts := strings.Fields(strings.ToLower(strings.Join(r.Hosts, " ")))
	slices.Sort(hosts)
	return fmt.Sprint(r.Path, " ", r.viewerPath(), " ", slices.Compact(hosts))
}

// viewerPath returns the pattern of viewers' paths.
func (r RouteConfig) viewerPath() string {
	if r.Edge != nil {
		return r.Edge.ViewerPath
	}
	return r.Path
}

// knownIdentityFields returns the fields that may tell sessions apart.
func (r *RouteConfig) knownIdentityFields() []string {
	known := []string{identityAddress, identityAgent, identityPlayback}
	if r.Edge != nil && r.Edge.Dialect.KeepsSessions() {
		known = append(known, identityEdgeSession)
	}
	return known
}
