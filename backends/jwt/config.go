package jwt

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/backends"
)

// minSecret is the shortest secret, in bytes: RFC 7518 §3.2 asks that of HS256.
const minSecret = 32

// Config is a jwt backend's own keys. Exactly one of Secret, PublicKeyFile and JWKSURL must be set, and Algorithms.
type Config struct {
	// Parameter is the query parameter that holds the token, and Header the header, in which "Bearer " may stand before
	// it; the route must name that among its credentials. Empty: not there. The parameter wins over the header.
	Parameter string `yaml:"parameter"`
	Header    string `yaml:"header"`

	// Algorithms are those that a token may be signed with: HS256, HS384, HS512 with a secret; RS256, RS384, RS512,
	// PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA with public keys.
	Algorithms []string `yaml:"algorithms"`
	// Secret is what HS algorithms sign with, at least 32 bytes.
	Secret backends.Secret `yaml:"secret"`
	// PublicKeyFile is a PEM file: a public key or a certificate. It is read once.
	PublicKeyFile string `yaml:"public_key_file"`
	// JWKSURL is where the issuer publishes its keys, usually https; JWKSRefreshInterval is how often they are fetched, and
	// JWKSTimeout how long a fetch may take.
	JWKSURL             string        `yaml:"jwks_url"`
	JWKSRefreshInterval time.Duration `yaml:"jwks_refresh_interval"`
	JWKSTimeout         time.Duration `yaml:"jwks_timeout"`

	// Issuer and Audience are what iss must be, and aud must name. Empty: anything.
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// ClockSkew is how far the issuer's clock may be off.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// RequireExpiry denies tokens without exp.
	RequireExpiry bool `yaml:"require_expiry"`

	// UserClaim is the user's key and NameClaim the name to show. A token may lack them; empty: not read.
	UserClaim string `yaml:"user_claim"`
	NameClaim string `yaml:"name_claim"`
	// ChannelsClaim lists the channels that the token is for, as a list or with spaces between: patterns as of Go's
	// path.Match, and "*" alone for all. AddressClaim is the viewer's address. Empty: anything; else a token must have
	// them.
	ChannelsClaim string `yaml:"channels_claim"`
	AddressClaim  string `yaml:"address_claim"`
	// MaxSessionsClaim bounds the user's concurrent sessions. A token may lack it; empty: not read.
	MaxSessionsClaim string `yaml:"max_sessions_claim"`

	// EndSessionOnExpiry ends running sessions with their token. Otherwise a token must be valid when the session opens.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
}

// DefaultConfig has everything but the algorithms and the source of keys.
func DefaultConfig() Config {
	return Config{
		Parameter:           "token",
		JWKSRefreshInterval: 5 * time.Minute,
		JWKSTimeout:         2 * time.Second,
		ClockSkew:           30 * time.Second,
		RequireExpiry:       true,
		UserClaim:           "sub",
		NameClaim:           "name",
	}
}

// Validate reports everything wrong that can be seen without opening a file. Messages begin with the key, under the
// backend's own.
func (c Config) Validate() error {
	var errs []error
	if c.Parameter == "" && c.Header == "" {
		errs = append(errs, errors.New("parameter: must be set, or header"))
	}
	if strings.ContainsFunc(c.Header, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		errs = append(errs, fmt.Errorf("header: %q is no header's name", c.Header))
	}
	if c.ClockSkew < 0 {
		errs = append(errs, fmt.Errorf("clock_skew: %s must not be below 0", c.ClockSkew))
	}
	if c.JWKSRefreshInterval < time.Second {
		errs = append(errs, fmt.Errorf("jwks_refresh_interval: %s must be at least 1s", c.JWKSRefreshInterval))
	}
	if c.JWKSTimeout <= 0 {
		errs = append(errs, fmt.Errorf("jwks_timeout: %s must be above 0", c.JWKSTimeout))
	}
	return errors.Join(append(errs, c.validateAlgorithms(), c.validateSource())...)
}

func (c Config) validateAlgorithms() error {
	if len(c.Algorithms) == 0 {
		return fmt.Errorf("algorithms: must be set to some of %s", strings.Join(algorithms(), ", "))
	}
	var errs []error
	for _, name := range c.Algorithms {
		switch {
		case strings.EqualFold(name, "none"):
			errs = append(errs, errors.New("algorithms: none is no signature, and always refused"))
		case !slices.Contains(algorithms(), name):
			errs = append(errs, fmt.Errorf("algorithms: %q: want some of %s", name, strings.Join(algorithms(), ", ")))
		case c.Secret != "" && !symmetric(name):
			errs = append(errs, fmt.Errorf("algorithms: %s needs public_key_file or jwks_url, not secret", name))
		case c.Secret == "" && symmetric(name):
			errs = append(errs, fmt.Errorf("algorithms: %s needs secret; a public key is none", name))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateSource() error {
	set := 0
	for _, is := range []bool{c.Secret != "", c.PublicKeyFile != "", c.JWKSURL != ""} {
		if is {
			set++
		}
	}
	var errs []error
	if set != 1 {
		const wrong = "secret: exactly one of secret, public_key_file and jwks_url must be set, not %d"
		errs = append(errs, fmt.Errorf(wrong, set))
	}
	if n := len(c.Secret.Reveal()); n > 0 && n < minSecret {
		errs = append(errs, fmt.Errorf("secret: %d bytes are too few; want at least %d", n, minSecret))
	}
	return errors.Join(append(errs, validateURL(c.JWKSURL))...)
}

// validateURL never shows the address whole: it may hold a password.
func validateURL(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("jwks_url: not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("jwks_url: must begin with https:// or http://, not %q", u.Scheme)
	case u.Hostname() == "":
		return errors.New("jwks_url: has no host")
	case u.Fragment != "":
		return errors.New("jwks_url: has a '#', which is never sent; write %23")
	}
	return nil
}
