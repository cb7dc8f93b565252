package smarty

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/backends/httpbackend"
	"usher/backends/setting"
)

// checkPath is the path of the middleware's token check, below its address. checkPathSuffix ends every variant of it.
const (
	checkPath       = "/tvmiddleware/api/streamservice/token/check/"
	checkPathSuffix = "/token/check/"
)

// The possible entries of `send`.
const (
	sendName = "name"
	sendIP   = "ip"
)

// Config is a smarty backend's own keys: those of every HTTP backend, and additional parameters. Only the address, which
// is the middleware's, has no default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
	// Send lists parameters that are added to the viewer's query: "name", the channel; "ip", the viewer's address. Empty:
	// none, as Astra does.
	Send []string `yaml:"send"`
}

// DefaultConfig returns all defaults, with no additional parameters, as Astra. Only the address has none.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// SetPreset sets the preset, and the defaults that depend on it.
func (c *Config) SetPreset(p httpbackend.Preset) { c.HTTP.SetPreset(p) }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error {
	errs := []error{c.withEndpoint().Validate()}
	if c.HTTP.BrokenPage != httpbackend.BrokenPageAlarm {
		errs = append(errs, fmt.Errorf("broken_page: %v has no effect, since the JSON in the body decides; leave it out", c.HTTP.BrokenPage))
	}
	for i, name := range c.Send {
		switch {
		case name != sendName && name != sendIP:
			errs = append(errs, fmt.Errorf("send: %q: want name or ip", name))
		case slices.Contains(c.Send[:i], name):
			errs = append(errs, fmt.Errorf("send: %q is listed twice", name))
		}
	}
	return errors.Join(errs...)
}

// ViewerFields returns what the middleware reads of a viewer's request.
func (c Config) ViewerFields() []setting.ViewerField {
	return []setting.ViewerField{{Setting: "kind", Parameter: "token", Credential: "token"}}
}

// withEndpoint returns the HTTP config with the complete address of the check.
func (c Config) withEndpoint() httpbackend.Config {
	c.HTTP.Address = endpoint(c.HTTP.Address)
	return c.HTTP
}

// endpoint returns the complete address of the check. A complete address, with or without its last slash, stays
// unchanged.
func endpoint(address string) string {
	path, _, _ := strings.Cut(address, "?")
	if address == "" || strings.HasSuffix(strings.TrimRight(path, "/")+"/", checkPathSuffix) {
		return address
	}
	return httpbackend.WithPath(address, checkPath)
}
