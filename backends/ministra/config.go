package ministra

import (
	"strings"

	"usher/backends/httpbackend"
)

// checkPath is where the portal checks temporary links, under its own address.
const checkPath = "/server/api/chk_flussonic_tmp_link.php"

// Config is a ministra backend's own keys: those of every HTTP backend. Only the address, which is the portal's, has no
// default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
}

// DefaultConfig has everything but the address.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error { return c.complete().Validate() }

// complete is the config with the address that is asked.
func (c Config) complete() httpbackend.Config {
	c.HTTP.URL = endpoint(c.HTTP.URL)
	return c.HTTP
}

// endpoint is where a portal is asked. An address in full, as Alta and auth-proxy want it typed, stays as it is.
func endpoint(address string) string {
	path, _, _ := strings.Cut(address, "?")
	if address == "" || strings.HasSuffix(path, ".php") {
		return address
	}
	return httpbackend.WithPath(address, checkPath)
}
