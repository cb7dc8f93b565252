package signedlink

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"usher/backends/setting"
)

// maxTolerance keeps the tolerance below any sensible validity.
const maxTolerance = time.Hour

// Config is a signedlink backend's own keys. Only the secret has no default.
type Config struct {
	// Secret is the secret that the portal signs with.
	Secret setting.Secret `yaml:"secret"`
	// ExtraSecrets are further secrets, for rotation. A link may be made with any of them. Removing one ends the sessions that it
	// opened.
	ExtraSecrets []setting.Secret `yaml:"extra_secrets"`
	// MD5Parameter is the query parameter of the hash.
	MD5Parameter string `yaml:"md5_parameter"`
	// ExpiresParameter is the query parameter of the link's last second.
	ExpiresParameter string `yaml:"expires_parameter"`
	// Expression is the input of the hash: text, $secret, $uri, $expires and $remote_addr, as in nginx.
	Expression string `yaml:"expression"`
	// TrimSuffixes lists path suffixes that the portal omits when it signs. Empty: none.
	TrimSuffixes []string `yaml:"trim_suffixes"`
	// ClockSkew is how far the portal's clock may be behind ours, in whole seconds. Zero: not at all, as in nginx.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// EndSessionOnExpiry also ends running sessions when their link expires. False: running sessions continue.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
}

// DefaultConfig returns the defaults of Ministra's links. Only the secret has none.
func DefaultConfig() Config {
	return Config{
		MD5Parameter:     "st",
		ExpiresParameter: "e",
		Expression:       "$secret$uri$expires",
		TrimSuffixes:     []string{"/playlist.m3u8"},
	}
}

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error {
	_, err := parseExpression(c.Expression)
	return errors.Join(c.validateSecrets(), c.validateParameters(), err, c.validateTrim(), c.validateTolerance())
}

// ViewerFields returns what the settings read of a viewer's request. Without either nobody is allowed.
func (c Config) ViewerFields() []setting.ViewerField {
	return []setting.ViewerField{
		{Setting: "md5_parameter", Parameter: c.MD5Parameter, IsAnyCase: true, Credential: "link"},
		{Setting: "expires_parameter", Parameter: c.ExpiresParameter, IsAnyCase: true, IsNumber: true, Credential: "link"},
	}
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
		return fmt.Errorf("expires_parameter: %q is the hash's parameter", c.ExpiresParameter)
	}
	return nil
}

func (c Config) validateTrim() error {
	var errs []error
	for i, suffix := range c.TrimSuffixes {
		if suffix == "" {
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
		return fmt.Errorf("clock_skew: %s is not a whole number of seconds, the unit of links", c.ClockSkew)
	}
	return nil
}

// secrets returns all secrets, Secret first.
func (c Config) secrets() []setting.Secret {
	if c.Secret == "" {
		return c.ExtraSecrets
	}
	return append([]setting.Secret{c.Secret}, c.ExtraSecrets...)
}
