package iptvportal

import (
	"errors"
	"strings"

	"usher/backends/httpbackend"
)

// Where a portal answers Astra, and where Flussonic, under its own address.
const (
	astraPath     = "/auth/arescrypt/"
	flussonicPath = "/auth/flussonic/arescrypt/"
)

// Config is an iptvportal backend's own keys: those of every HTTP backend, and which of the portal's two places is
// asked. Only the address, which is the portal's, has no default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
	// UseFlussonicEndpoint asks where the portal answers Flussonic; false, where it answers Astra. The channel's Auth in the portal
	// must say the same.
	UseFlussonicEndpoint bool `yaml:"use_flussonic_endpoint"`
}

// DefaultConfig has everything but the address, and asks as Astra does.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	var contradiction error
	if c.UseFlussonicEndpoint && endsIn(c.HTTP.URL, astraPath) {
		contradiction = errors.New("use_flussonic_endpoint: true asks at " + flussonicPath + ", but url ends in " + astraPath)
	}
	return errors.Join(c.complete().Validate(), contradiction)
}

// complete is the config with the address that is asked.
func (c Config) complete() httpbackend.Config {
	path := astraPath
	if c.UseFlussonicEndpoint {
		path = flussonicPath
	}
	c.HTTP.URL = endpoint(c.HTTP.URL, path)
	return c.HTTP
}

// endpoint is where a portal is asked. An address in full, as Alta and Flussonic want it typed, stays as it is.
func endpoint(address, path string) string {
	if address == "" || endsIn(address, astraPath) || endsIn(address, flussonicPath) {
		return address
	}
	return httpbackend.WithPath(address, path)
}

// endsIn reports whether the address's path ends in path, with or without its last slash.
func endsIn(address, path string) bool {
	own, _, _ := strings.Cut(address, "?")
	return strings.HasSuffix(strings.TrimRight(own, "/")+"/", path)
}
