package smarty

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/backends/httpbackend"
)

// checkPath is where the middleware checks tokens, under its own address; checkEnd is how every variant of it ends.
const (
	checkPath = "/tvmiddleware/api/streamservice/token/check/"
	checkEnd  = "/token/check/"
)

// What `send_fields` may list.
const (
	sendName = "name"
	sendIP   = "ip"
)

// Config is a smarty backend's own keys: those of every HTTP backend, and what is sent besides. Only the address, which
// is the middleware's, has no default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
	// SendFields lists what is added to the viewer's query: "name", the channel; "ip", the viewer's address. Empty: nothing, as
	// Astra does.
	SendFields []string `yaml:"send_fields"`
}

// DefaultConfig has everything but the address, and sends what Astra does.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	errs := []error{c.complete().Validate()}
	for i, what := range c.SendFields {
		switch {
		case what != sendName && what != sendIP:
			errs = append(errs, fmt.Errorf("send_fields: %q: want name or ip", what))
		case slices.Contains(c.SendFields[:i], what):
			errs = append(errs, fmt.Errorf("send_fields: %q is listed twice", what))
		}
	}
	return errors.Join(errs...)
}

// complete is the config with the address that is asked.
func (c Config) complete() httpbackend.Config {
	c.HTTP.URL = endpoint(c.HTTP.URL)
	return c.HTTP
}

// endpoint is where a middleware is asked. An address in full, with or without its last slash, stays as it is.
func endpoint(address string) string {
	path, _, _ := strings.Cut(address, "?")
	if address == "" || strings.HasSuffix(strings.TrimRight(path, "/")+"/", checkEnd) {
		return address
	}
	return httpbackend.WithPath(address, checkPath)
}
