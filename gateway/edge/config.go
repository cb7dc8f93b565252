package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config makes a route one at which an edge, somebody else's media server, asks whether a viewer may watch.
type Config struct {
	// Dialect is how it asks.
	Dialect Dialect `yaml:"dialect"`
	// Networks are where it asks from. Nobody else is answered, since what an edge says of a viewer is believed.
	Networks []netip.Prefix `yaml:"networks"`
	// ViewerPath is the pattern that viewers' paths match at the edge, such as "/play/{channel}/*", with credentials in
	// it as in a media route's path. Empty: the channel is as the edge names it, or else the whole path.
	ViewerPath string `yaml:"viewer_path"`
	// MatchBy is how requests without credentials are told to be a viewer's.
	MatchBy MatchMode `yaml:"match_by"`
	// ExtraLifetime is how long a session outlasts the validity of its decision, counted from when the edge last asked.
	ExtraLifetime time.Duration `yaml:"extra_lifetime"`
	// PublishBackend is who decides whether somebody may send a stream, where the edge asks that too; empty: nobody may.
	PublishBackend string `yaml:"publish_backend"`
}

// SetDefaults is for the section of a route.
func (c *Config) SetDefaults() { c.ExtraLifetime = time.Minute }

// minMargin is so long that an edge which asks again when a decision has ended finds the session.
const minMargin = 10 * time.Second

// Validate names every setting that cannot work, by its path in the file, which begins with key. hasBackend tells whether
// a backend of that name is configured.
func (c *Config) Validate(key string, hasBackend func(string) bool) error {
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
	wrong(c.ExtraLifetime < minMargin, "extra_lifetime: %v is too short; want at least %v", c.ExtraLifetime, minMargin)
	wrong(c.PublishBackend != "" && !hasBackend(c.PublishBackend),
		"publish_backend: %q is not among backends", c.PublishBackend)
	wrong(c.PublishBackend != "" && c.Dialect != Flussonic,
		"publish_backend: only flussonic asks about publishing, not %s", c.Dialect)
	wrong(c.MatchBy == MatchByCookie && c.Dialect.KeepsSessions(),
		"match_by: cookie cannot be: %s passes none on to viewers", c.Dialect)
	return errors.Join(errs...)
}
