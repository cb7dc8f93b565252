package jwt

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/backends/setting"
)

// minSecretBytes is the shortest secret: RFC 7518 §3.2 requires it for HS256.
const minSecretBytes = 32

// Config is a jwt backend's own keys. Exactly one of Secret, PublicKeyFile and JWKSURL must be set, and Algorithms.
type Config struct {
	// Parameter is the query parameter of the token. It takes precedence over the header. Empty: not read.
	Parameter string `yaml:"parameter"`
	// Header is the header of the token, with or without "Bearer ". The route must name it among its credentials. Empty:
	// not read.
	Header string `yaml:"header"`

	// Algorithms lists the allowed signature algorithms: HS256, HS384, HS512 with a secret; RS256, RS384, RS512, PS256,
	// PS384, PS512, ES256, ES384, ES512 and EdDSA with public keys.
	Algorithms []string `yaml:"algorithms"`
	// Secret is the key of HS algorithms, at least 32 bytes.
	Secret setting.Secret `yaml:"secret"`
	// PublicKeyFile is a PEM file: a public key or a certificate. It is read with the settings.
	PublicKeyFile setting.File `yaml:"public_key_file"`
	// JWKSURL is the URL of the issuer's JWK set, usually https.
	JWKSURL string `yaml:"jwks_url"`
	// JWKSRefreshInterval is the interval between fetches.
	JWKSRefreshInterval time.Duration `yaml:"jwks_refresh_interval"`
	// JWKSTimeout bounds one fetch.
	JWKSTimeout time.Duration `yaml:"jwks_timeout"`
	// TLS is for the connection to JWKSURL.
	TLS setting.TLSConfig `yaml:"tls"`

	// Issuer is the required iss. Empty: any.
	Issuer string `yaml:"issuer"`
	// Audience must be among aud. Empty: any.
	Audience string `yaml:"audience"`
	// ClockSkew is the allowed difference between the issuer's clock and ours.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// RequireExpiry denies tokens without exp.
	RequireExpiry bool `yaml:"require_expiry"`

	// UserClaim is the claim of the user's id. A token may lack it. Empty: not read.
	UserClaim string `yaml:"user_claim"`
	// NameClaim is the claim of the displayed name. A token may lack it. Empty: not read.
	NameClaim string `yaml:"name_claim"`
	// ChannelsClaim is the claim of the token's channels, a list or a string separated by spaces. They are patterns as of
	// [setting.MatchesChannel]. A token must have it. Empty: any channel.
	ChannelsClaim string `yaml:"channels_claim"`
	// AddressClaim is the claim of the viewer's address. A token must have it. Empty: any address.
	AddressClaim string `yaml:"address_claim"`
	// MaxSessionsClaim is the claim that limits the user's concurrent sessions. A token may lack it. Empty: not read.
	MaxSessionsClaim string `yaml:"max_sessions_claim"`

	// EndSessionOnExpiry ends running sessions when their token expires. Otherwise the token only has to be valid when the
	// session opens.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
}

// DefaultConfig returns all defaults. The algorithms and the source of keys have none.
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

// Validate returns all problems at once, except those of files. Each message begins with the key, relative to the
// backend's section.
func (c Config) Validate() error {
	var errs []error
	if c.Parameter == "" && c.Header == "" {
		errs = append(errs, errors.New("parameter: must be set, or header"))
	}
	if strings.ContainsFunc(c.Header, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		errs = append(errs, fmt.Errorf("header: %q is not a header name", c.Header))
	}
	if setting.IsReplacedHeader(c.Header) {
		errs = append(errs, fmt.Errorf("header: %q never reaches a backend as the viewer sent it; want a field that only viewers send", c.Header))
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

// ViewerFields returns what the settings read of a viewer's request.
func (c Config) ViewerFields() []setting.ViewerField {
	var fields []setting.ViewerField
	if c.Parameter != "" {
		fields = append(fields, setting.ViewerField{Setting: "parameter", Parameter: c.Parameter, Credential: "parameter"})
	}
	if c.Header != "" && !setting.IsReplacedHeader(c.Header) {
		fields = append(fields, setting.ViewerField{Setting: "header", Header: c.Header, Credential: "header", IsRequired: true})
	}
	return fields
}

// Warnings says what allowed settings cost.
func (c Config) Warnings() error {
	var errs []error
	if !c.RequireExpiry {
		errs = append(errs, errors.New("require_expiry: false accepts tokens without exp, and a copied one is good for ever; want true"))
	}
	if c.isPlain() {
		errs = append(errs, errors.New("jwks_url: is fetched over plain http, so anyone on the way can sign tokens; use an https jwks_url"))
	}
	return errors.Join(errs...)
}

func (c Config) validateAlgorithms() error {
	if len(c.Algorithms) == 0 {
		return fmt.Errorf("algorithms: must be set to some of %s", strings.Join(algorithms(), ", "))
	}
	var errs []error
	for _, name := range c.Algorithms {
		switch {
		case strings.EqualFold(name, "none"):
			errs = append(errs, errors.New("algorithms: none is not a signature and is never allowed"))
		case !slices.Contains(algorithms(), name):
			errs = append(errs, fmt.Errorf("algorithms: %q: want some of %s", name, strings.Join(algorithms(), ", ")))
		case c.Secret != "" && !isSymmetric(name):
			errs = append(errs, fmt.Errorf("algorithms: %s needs public_key_file or jwks_url, not secret", name))
		case c.Secret == "" && isSymmetric(name):
			errs = append(errs, fmt.Errorf("algorithms: %s needs secret, not a public key", name))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateSource() error {
	set := 0
	for _, isSet := range []bool{c.Secret != "", c.PublicKeyFile.Path != "", c.JWKSURL != ""} {
		if isSet {
			set++
		}
	}
	var errs []error
	if set != 1 {
		const format = "secret: exactly one of secret, public_key_file and jwks_url must be set, not %d"
		errs = append(errs, fmt.Errorf(format, set))
	}
	if n := len(c.Secret.Reveal()); n > 0 && n < minSecretBytes {
		errs = append(errs, fmt.Errorf("secret: %d bytes are too few; want at least %d", n, minSecretBytes))
	}
	return errors.Join(append(errs, validateURL(c.JWKSURL), c.TLS.Validate(), c.validateFetchUse())...)
}

// validateFetchUse reports settings of a fetch that is not made, or not over TLS.
func (c Config) validateFetchUse() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	isSet, hasTLS, defaults := c.JWKSURL != "", c.TLS != (setting.TLSConfig{}), DefaultConfig()
	wrong(!isSet && hasTLS, "tls: is for jwks_url, which is not set")
	wrong(isSet && hasTLS && c.isPlain(), "tls: has no effect, since jwks_url begins with http://; want https://, or no tls")
	wrong(!isSet && c.JWKSRefreshInterval != defaults.JWKSRefreshInterval,
		"jwks_refresh_interval: %s is for jwks_url, which is not set", c.JWKSRefreshInterval)
	wrong(!isSet && c.JWKSTimeout != defaults.JWKSTimeout, "jwks_timeout: %s is for jwks_url, which is not set", c.JWKSTimeout)
	return errors.Join(errs...)
}

// isPlain reports whether the JWK set is fetched without TLS.
func (c Config) isPlain() bool { return strings.HasPrefix(strings.ToLower(c.JWKSURL), "http:") }

// validateURL never shows the whole address: it may contain a password.
func validateURL(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("jwks_url: not a URL, such as https://auth.example.com/jwks.json")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("jwks_url: must begin with https:// or http://, not %q", u.Scheme)
	case u.Hostname() == "":
		return errors.New("jwks_url: has no host; want a URL such as https://auth.example.com/jwks.json")
	case u.Fragment != "":
		return errors.New("jwks_url: has a '#', which is never sent; write %23")
	}
	if err := setting.ValidatePort(u.Port()); err != nil {
		return fmt.Errorf("jwks_url: %w", err)
	}
	return nil
}
