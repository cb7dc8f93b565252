package smarty

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/backends/httpbackend"
)

// checkPath is where the middleware checks tokens, under its own address; checkPathSuffix is how every variant of it ends.
const (
	checkPath       = "/tvmiddleware/api/streamservice/token/check/"
	checkPathSuffix = "/token/check/"
)

// What `send` may list.
const (
	sendName = "name"
	sendIP   = "ip"
)

// Config is a smarty backend's own keys: those of every HTTP backend, and what is sent besides. Only the address, which
// is the middleware's, has no default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
	// Send lists what is added to the viewer's query: "name", the channel; "ip", the viewer's address. Empty: nothing, as
	// Astra does.
	Send []string `yaml:"send"`
}

// DefaultConfig has everything but the address, and sends what Astra does.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error {
	errs := []error{c.withEndpoint().Validate()}
	for i, what := range c.Send {
		switch {
		case what != sendName && what != sendIP:
			errs = append(errs, fmt.Errorf("send: %q: want name or ip", what))
		case slices.Contains(c.Send[:i], what):
			errs = append(errs, fmt.Errorf("send: %q is listed twice", what))
		}
	}
	return errors.Join(errs...)
}

// withEndpoint is the config with the address that is asked.
func (c Config) withEndpoint() httpbackend.Config {
	c.HTTP.Address = endpoint(c.HTTP.Address)
	return c.HTTP
}

// endpoint is where a middleware is asked. An address in full, with or without its last slash, stays as it is.
func endpoint(address string) string {
	path, _, _ := strings.Cut(address, "?")
	if address == "" || strings.HasSuffix(strings.TrimRight(path, "/")+"/", checkPathSuffix) {
		return address
	}
	return httpbackend.WithPath(address, checkPath)
}
