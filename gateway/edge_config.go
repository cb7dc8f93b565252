package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"usher/gateway/authz"
	"usher/gateway/hls"
)

// EdgeConfig makes a route one at which an edge, somebody else's media server, asks whether a viewer may watch.
type EdgeConfig struct {
	// Dialect is how it asks.
	Dialect authz.Dialect `yaml:"dialect"`
	// Networks are where it asks from. Nobody else is answered, since what an edge says of a viewer is believed.
	Networks []netip.Prefix `yaml:"networks"`
	// ViewerPath is the pattern that viewers' paths match at the edge, such as "/play/{channel}/*", with credentials in
	// it as in a media route's path. Empty: the channel is as the edge names it, or else the whole path.
	ViewerPath string `yaml:"viewer_path"`
	// MatchBy is how requests without credentials are told to be a viewer's.
	MatchBy authz.Recognition `yaml:"match_by"`
	// ExtraLifetime is how long a session outlasts the validity of its decision, counted from when the edge last asked.
	ExtraLifetime time.Duration `yaml:"extra_lifetime"`
	// PublishBackend is who decides whether somebody may send a stream, where the edge asks that too; empty: nobody may.
	PublishBackend string `yaml:"publish_backend"`
}

// SetDefaults is for the section of a route.
func (c *EdgeConfig) SetDefaults() { c.ExtraLifetime = time.Minute }

// minMargin is so long that an edge which asks again when a decision has ended finds the session.
const minMargin = 10 * time.Second

// validateEdge names every setting of a route for an edge that cannot work.
func (r RouteConfig) validateEdge(key string, hasBackend func(string) bool) error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(key+"."+format, args...))
		}
	}
	c := r.Edge
	wrong(c.Dialect == authz.NoDialect,
		"edge.dialect: missing; want astra, alta, flussonic, nginx, forward-auth or envoy")
	wrong(len(c.Networks) == 0, "edge.networks: none; want those of the edge, such as [ 192.0.2.10/32 ]")
	wrong(c.ViewerPath == "" && c.Dialect >= authz.Nginx,
		`edge.viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"`)
	wrong(c.ExtraLifetime < minMargin, "edge.extra_lifetime: %v is too short; want at least %v", c.ExtraLifetime, minMargin)
	wrong(c.PublishBackend != "" && !hasBackend(c.PublishBackend),
		"edge.publish_backend: %q is not among backends", c.PublishBackend)
	wrong(c.PublishBackend != "" && c.Dialect != authz.Flussonic,
		"edge.publish_backend: only flussonic asks about publishing, not %s", c.Dialect)
	wrong(c.Dialect == authz.Envoy && r.Path != "", "path: envoy asks at ext_authz.listen; leave it out")
	wrong(c.MatchBy == authz.RecogniseCookie && c.Dialect.KeepsSessions(),
		"edge.match_by: cookie cannot be: %s passes none on to viewers", c.Dialect)
	wrong(c.Dialect.KeepsSessions() && len(r.CredentialHeaders) > 0,
		"credential_headers: %s passes none of a viewer's on", c.Dialect)
	wrong(c.Dialect.KeepsSessions() && slices.Contains(r.IdentityFields, identityPlayback),
		"identity_fields: %s: %s passes no header of a viewer's on", identityPlayback, c.Dialect)
	wrong(!c.Dialect.KeepsSessions() && slices.Contains(r.IdentityFields, identityEdgeSession),
		"identity_fields: %s: %s has no sessions of its own", identityEdgeSession, c.Dialect)
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

// validateDoors finds routes whose edges ask at one path in words of two kinds, of which only one could be understood.
func (c Config) validateDoors() error {
	var errs []error
	for i, r := range c.Routes {
		for j, other := range c.Routes[:i] {
			if r.Edge == nil || other.Edge == nil || r.Path != other.Path || r.Edge.Dialect == other.Edge.Dialect {
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
