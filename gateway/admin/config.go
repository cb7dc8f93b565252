package admin

import (
	"errors"
	"fmt"
	"net"

	"usher/backends/setting"
)

// minTokenLength is the length of the shortest bearer token that cannot be guessed.
const minTokenLength = 12

// Config configures the admin listener.
type Config struct {
	// Listen is the address of the listener, "host:port". Empty means no admin listener.
	Listen string `yaml:"listen"`
	// Token is the bearer token of the API.
	Token setting.Secret `yaml:"token"`
}

// DefaultConfig returns the defaults: no admin listener.
func DefaultConfig() Config { return Config{} }

// Validate reports every invalid setting.
func (c Config) Validate() error {
	if c.Listen == "" {
		return nil
	}
	var errs []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf(`listen: %q is not an address; want "host:port"`, c.Listen))
	}
	if n := len(c.Token.Reveal()); n < minTokenLength {
		errs = append(errs, fmt.Errorf("token: has %d characters; want at least %d", n, minTokenLength))
	}
	return errors.Join(errs...)
}
