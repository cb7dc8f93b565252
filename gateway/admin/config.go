package admin

import (
	"errors"
	"fmt"
	"net"

	"usher/backends"
)

// minToken is the shortest bearer token that is no guess.
const minToken = 12

// Config is the admin listener.
type Config struct {
	// Listen is its address, "host:port"; empty: none.
	Listen string `yaml:"listen"`
	// Token is the bearer token of the API.
	Token backends.Secret `yaml:"token"`
}

// DefaultConfig is what holds where the file is silent: no admin listener.
func DefaultConfig() Config { return Config{} }

// Validate names every setting that cannot work.
func (c Config) Validate() error {
	if c.Listen == "" {
		return nil
	}
	var errs []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf(`listen: %q is no address; want "host:port"`, c.Listen))
	}
	if n := len(c.Token.Reveal()); n < minToken {
		errs = append(errs, fmt.Errorf("token: has %d characters; want at least %d", n, minToken))
	}
	return errors.Join(errs...)
}
