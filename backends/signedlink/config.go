package signedlink

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"usher/backends"
)

// maxTolerance keeps the tolerance smaller than any validity that makes sense.
const maxTolerance = time.Hour

// Config is a signedlink backend's own keys. Only the secret has no default.
type Config struct {
	// Secret is what the portal signs with. Secrets are more of them, so that it can be changed; any one verifies.
	Secret       backends.Secret   `yaml:"secret"`
	ExtraSecrets []backends.Secret `yaml:"extra_secrets"`
	// MD5Parameter and ExpiresParameter are the query parameters that hold the hash and the link's last second.
	MD5Parameter     string `yaml:"md5_parameter"`
	ExpiresParameter string `yaml:"expires_parameter"`
	// Expression is what the hash is made over: text, $secret, $uri, $expires and $remote_addr, as in nginx.
	Expression string `yaml:"expression"`
	// TrimSuffixes are ends of paths that the portal leaves out when it signs. Empty: none.
	TrimSuffixes []string `yaml:"trim_suffixes"`
	// ClockSkew is by how much the portal's clock may be behind ours, in whole seconds. Zero: not at all, as in nginx.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// EndSessionOnExpiry also ends running sessions with their links. False: who is in stays in.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
}

// DefaultConfig has everything but the secret, as Ministra makes links.
func DefaultConfig() Config {
	return Config{
		MD5Parameter:     "st",
		ExpiresParameter: "e",
		Expression:       "$secret$uri$expires",
		TrimSuffixes:     []string{"/playlist.m3u8"},
	}
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	_, err := compile(c.Expression)
	return errors.Join(c.validateSecrets(), c.validateParameters(), err, c.validateTrim(), c.validateTolerance())
}

func (c Config) validateSecrets() error {
	if c.Secret == "" && len(c.ExtraSecrets) == 0 {
		return errors.New("secret: must be set")
	}
	var errs []error
	for i, secret := range c.ExtraSecrets {
		if secret == "" {
			errs = append(errs, fmt.Errorf("extra_secrets[%d]: is empty", i))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateParameters() error {
	switch {
	case c.MD5Parameter == "":
		return errors.New("md5_parameter: must be set")
	case c.ExpiresParameter == "":
		return errors.New("expires_parameter: must be set")
	case strings.EqualFold(c.MD5Parameter, c.ExpiresParameter):
		return fmt.Errorf("expires_parameter: %q is that of the hash", c.ExpiresParameter)
	}
	return nil
}

func (c Config) validateTrim() error {
	var errs []error
	for i, end := range c.TrimSuffixes {
		if end == "" {
			errs = append(errs, fmt.Errorf("trim_suffixes[%d]: is empty", i))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateTolerance() error {
	switch {
	case c.ClockSkew < 0 || c.ClockSkew > maxTolerance:
		return fmt.Errorf("clock_skew: %s is out of range; want 0 to %s", c.ClockSkew, maxTolerance)
	case c.ClockSkew%time.Second != 0:
		return fmt.Errorf("clock_skew: %s is no whole number of seconds, in which links count", c.ClockSkew)
	}
	return nil
}

// secrets are all of them, the first one first.
func (c Config) secrets() []backends.Secret {
	if c.Secret == "" {
		return c.ExtraSecrets
	}
	return append([]backends.Secret{c.Secret}, c.ExtraSecrets...)
}
