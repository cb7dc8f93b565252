package ministra

import (
	"fmt"
	"path"
	"strings"

	"usher/backends/httpbackend"
	"usher/backends/setting"
)

// checkPath is the path of the portal's check of temporary links, below its address.
const checkPath = "/server/api/chk_flussonic_tmp_link.php"

// Config is a ministra backend's own keys: those of every HTTP backend. Only the address, which is the portal's, has no
// default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
}

// DefaultConfig returns all defaults. Only the address has none. A portal's script that fails still answers 200, with PHP's
// error in the body, as does another page of the portal with its text, and their yes would hold for ten hours: so that is a failure.
func DefaultConfig() Config {
	cfg := Config{HTTP: httpbackend.DefaultConfig()}
	cfg.HTTP.BrokenPage = httpbackend.BrokenPageFailure
	return cfg
}

// SetPreset sets the preset, and the defaults that depend on it.
func (c *Config) SetPreset(p httpbackend.Preset) { c.HTTP.SetPreset(p) }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error { return c.withEndpoint().Validate() }

// ViewerFields returns what the portal's script reads of a viewer's request. One of the operator's own reads what it likes.
func (c Config) ViewerFields() []setting.ViewerField {
	place, _, _ := strings.Cut(endpoint(c.HTTP.Address), "?")
	if path.Base(place) != path.Base(checkPath) {
		return nil
	}
	return []setting.ViewerField{{Setting: "kind", Parameter: "token", Credential: "token"}}
}

// Warnings says what allowed settings cost, beside those of every HTTP backend.
func (c Config) Warnings() error {
	place, _, _ := strings.Cut(c.HTTP.Address, "?")
	if script := path.Base(place); strings.HasSuffix(script, ".php") && !strings.HasPrefix(script, "chk_") {
		return fmt.Errorf("address: ends in %s, which is called as it is and may answer 200 to anybody; want the portal's URL, or that of its %s",
			script, path.Base(checkPath))
	}
	return nil
}

// withEndpoint returns the HTTP config with the complete address of the check.
func (c Config) withEndpoint() httpbackend.Config {
	c.HTTP.Address = endpoint(c.HTTP.Address)
	return c.HTTP
}

// endpoint returns the complete address of the check. A complete address, as Alta and auth-proxy require it, stays
// unchanged.
func endpoint(address string) string {
	path, _, _ := strings.Cut(address, "?")
	if address == "" || strings.HasSuffix(path, ".php") {
		return address
	}
	return httpbackend.WithPath(address, checkPath)
}
