package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"usher/backends/setting"
)

// Config makes a route one at which an edge asks whether a viewer may watch.
type Config struct {
	// Dialect is how the edge asks.
	Dialect Dialect `yaml:"dialect"`
	// Networks are where the edge asks from. Only they may ask, because an edge's report of a viewer is trusted.
	Networks []netip.Prefix `yaml:"networks"`
	// ViewerPath is the pattern of viewers' paths at the edge, such as "/play/{channel}/*". It may have credentials, as a
	// media route's path may. If empty, the channel is the edge's own name of it, else the whole path.
	ViewerPath string `yaml:"viewer_path"`
	// MatchBy is how requests without credentials are matched to a session.
	MatchBy MatchMode `yaml:"match_by"`
	// SessionID is what the edge's own id of a session is for.
	SessionID SessionIDMode `yaml:"session_id"`
	// ExtraLifetime is how long a session outlives its decision, counted from when the edge last asked.
	ExtraLifetime time.Duration `yaml:"extra_lifetime"`
	// PublishBackend is the backend that decides whether a viewer may send a stream, if the edge asks that too. If empty,
	// none may.
	PublishBackend string `yaml:"publish_backend"`
}

// SetDefaults sets the defaults of a route's section.
func (c *Config) SetDefaults() { c.ExtraLifetime = time.Minute }

// minExtraLifetime is long enough that an edge that asks again when the decision has ended finds the session.
const minExtraLifetime = 10 * time.Second

// Validate returns an error for every invalid setting, by its path in the file, which begins with key. The backends are
// the names of those that are configured.
func (c *Config) Validate(key string, backends []string) error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(key+"."+format, args...))
		}
	}
	wrong(c.Dialect == NoDialect,
		"dialect: missing; want astra, alta, flussonic, nginx, forward-auth or envoy")
	wrong(len(c.Networks) == 0, "networks: none; want those of the edge, such as [ 192.0.2.10/32 ]")
	wrong(c.ViewerPath == "" && c.Dialect >= Nginx,
		`viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"`)
	wrong(c.ExtraLifetime < minExtraLifetime, "extra_lifetime: %v is too short; want at least %v", c.ExtraLifetime, minExtraLifetime)
	wrong(c.PublishBackend != "" && !slices.Contains(backends, c.PublishBackend),
		"publish_backend: %q is not among backends%s", c.PublishBackend, setting.Hint(c.PublishBackend, backends))
	wrong(c.PublishBackend != "" && c.Dialect != Flussonic,
		"publish_backend: only flussonic asks about publishing, not %s", c.Dialect)
	wrong(c.SessionID != SessionIDOfEdge && !c.Dialect.KeepsSessions(),
		"session_id: %s has no sessions of its own", c.Dialect)
	wrong(c.MatchBy == MatchByCookie && c.Dialect.KeepsSessions(),
		"match_by: cookie cannot be: %s passes none on to viewers", c.Dialect)
	wrong(c.MatchBy == MatchByPlaylistsOnly && c.Dialect.KeepsSessions(),
		"match_by: playlists-only has no effect: %s asks about each of its sessions, whatever the path", c.Dialect)
	return errors.Join(errs...)
}
