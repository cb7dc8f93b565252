package iptvportal

import (
	"errors"
	"strings"

	"usher/backends/httpbackend"
	"usher/backends/setting"
)

// The paths of a portal's checks for Astra and for Flussonic, below its address.
const (
	astraPath     = "/auth/arescrypt/"
	flussonicPath = "/auth/flussonic/arescrypt/"
)

// Config is an iptvportal backend's own keys: those of every HTTP backend, and which of the portal's two paths is used.
// Only the address, which is the portal's, has no default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
	// UseFlussonicEndpoint calls the portal as Flussonic does; false as Astra does. The channel's Auth setting in the portal
	// must match.
	UseFlussonicEndpoint bool `yaml:"use_flussonic_endpoint"`
}

// DefaultConfig returns all defaults, with Astra's path. Only the address has none.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// SetPreset sets the preset, and the defaults that depend on it.
func (c *Config) SetPreset(p httpbackend.Preset) { c.HTTP.SetPreset(p) }

// ViewerFields returns none of a viewer's request. What the token is called is not public.
func (c Config) ViewerFields() []setting.ViewerField { return nil }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error {
	var contradiction error
	if c.UseFlussonicEndpoint && pathEndsWith(c.HTTP.Address, astraPath) {
		contradiction = errors.New("use_flussonic_endpoint: true uses " + flussonicPath + ", but address ends in " + astraPath)
	}
	return errors.Join(c.withEndpoint().Validate(), contradiction)
}

// withEndpoint returns the HTTP config with the complete address of the check.
func (c Config) withEndpoint() httpbackend.Config {
	path := astraPath
	if c.UseFlussonicEndpoint {
		path = flussonicPath
	}
	c.HTTP.Address = endpoint(c.HTTP.Address, path)
	return c.HTTP
}

// usesFlussonic reports whether the portal is called as Flussonic does. A complete address says so by itself.
func (c Config) usesFlussonic() bool { return pathEndsWith(c.withEndpoint().Address, flussonicPath) }

// endpoint returns the complete address of the check. A complete address, as Alta and Flussonic require it, stays
// unchanged.
func endpoint(address, path string) string {
	if address == "" || pathEndsWith(address, astraPath) || pathEndsWith(address, flussonicPath) {
		return address
	}
	return httpbackend.WithPath(address, path)
}

// pathEndsWith reports whether the address's path ends in path, with or without its last slash.
func pathEndsWith(address, path string) bool {
	base, _, _ := strings.Cut(address, "?")
	return strings.HasSuffix(strings.TrimRight(base, "/")+"/", path)
}
