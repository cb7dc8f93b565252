package httpbackend

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"usher/backends/httpbackend/signature"
	"usher/backends/setting"
)

// Config holds the settings that every adapter with an HTTP client has in common.
type Config struct {
	// Address is the URL to call, as the middleware's manual gives it. It may hold a query and user:password@.
	Address string `yaml:"address"`
	// Headers are sent with every call. They replace a viewer's.
	Headers map[string]setting.Secret `yaml:"headers"`
	// Preset says what statuses mean.
	Preset Preset `yaml:"preset"`
	// Statuses overrides the preset.
	Statuses Statuses `yaml:"statuses"`
	// Redirects says what a redirect means. Empty: where it leads decides, as the preset says.
	Redirects Redirects `yaml:"redirects"`
	// RequireHeader is a header, "Name" or "Name: value", that every allowing answer of the backend has. Empty: none.
	RequireHeader string `yaml:"require_header"`
	// RequireBody is a regular expression that the body of every allowing answer matches. Empty: none.
	RequireBody string `yaml:"require_body"`
	// OnUnmetRequirement says what an answer is that would allow but lacks one of the two.
	OnUnmetRequirement UnmetRequirement `yaml:"on_unmet_requirement"`
	// BrokenPage says what an allowing answer is whose body looks like a broken page.
	BrokenPage BrokenPage `yaml:"broken_page"`

	// DialTimeout bounds the connection, without the TLS handshake. The call's own timeout holds as well.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// TLSTimeout bounds the TLS handshake.
	TLSTimeout time.Duration `yaml:"tls_timeout"`
	// ResponseHeaderTimeout bounds the wait for the answer's header once the request was sent. Zero: the call's own timeout
	// alone.
	ResponseHeaderTimeout time.Duration `yaml:"response_header_timeout"`
	// IdleTimeout is how long an idle connection is kept.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxConnectionAge is how long a connection gets new calls, so that a change of the address in DNS is noticed.
	MaxConnectionAge time.Duration `yaml:"max_connection_age"`
	// MaxResponseHeaderSize bounds the headers of an answer. A larger answer is malformed.
	MaxResponseHeaderSize setting.ByteSize `yaml:"max_response_header_size"`
	// MaxBodySize bounds the body in the same way, where it is needed.
	MaxBodySize setting.ByteSize `yaml:"max_body_size"`

	// AllowedNetworks are the networks besides the internet, and the private network of Address, to which a redirect is followed.
	AllowedNetworks []netip.Prefix `yaml:"allowed_networks"`

	TLS       setting.TLSConfig `yaml:"tls"`
	Signature signature.Config  `yaml:"signature"`
}

// DefaultConfig returns the defaults. The address has none.
func DefaultConfig() Config {
	return Config{
		DialTimeout:           time.Second,
		TLSTimeout:            2 * time.Second,
		IdleTimeout:           time.Minute,
		MaxConnectionAge:      time.Minute,
		MaxResponseHeaderSize: 16 * setting.KiB,
		MaxBodySize:           64 * setting.KiB,
		Signature:             signature.DefaultConfig(),
	}
}

// SetPreset sets the preset, and the defaults that depend on it: the product's own times.
func (c *Config) SetPreset(p Preset) {
	c.Preset = p
	if p == PresetAuthProxy {
		c.DialTimeout, c.TLSTimeout, c.ResponseHeaderTimeout, c.IdleTimeout = 5*time.Second, 3*time.Second, 2*time.Second, 90*time.Second
	}
}

// Validate reports everything wrong. Messages begin with the key, relative to the backend's.
func (c Config) Validate() error {
	_, err := parseAddress(c.Address)
	_, requirementsErr := newAnswerRequirements(c)
	errs := []error{err, c.Statuses.Validate(), requirementsErr}
	for _, bound := range []struct {
		key   string
		value time.Duration
	}{
		{"dial_timeout", c.DialTimeout},
		{"tls_timeout", c.TLSTimeout},
		{"idle_timeout", c.IdleTimeout},
		{"max_connection_age", c.MaxConnectionAge},
	} {
		if bound.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %s must be above 0", bound.key, bound.value))
		}
	}
	if c.OnUnmetRequirement == UnmetRequirementDeny && c.RequireHeader == "" && c.RequireBody == "" {
		errs = append(errs, errors.New("on_unmet_requirement: deny needs require_header or require_body"))
	}
	if c.ResponseHeaderTimeout < 0 {
		errs = append(errs, fmt.Errorf("response_header_timeout: %s must be 0 (none) or above", c.ResponseHeaderTimeout))
	}
	return errors.Join(append(errs, c.validateSizes(), c.validateHeaders(), c.TLS.Validate(), c.validateUnused(), c.validateSignature())...)
}

// maxAnswerSize is far more than any middleware answers, and bounds what each call may make the node keep of an answer.
const maxAnswerSize = 16 * setting.MiB

func (c Config) validateSizes() error {
	var errs []error
	if size := c.MaxResponseHeaderSize; size < setting.KiB || size > maxAnswerSize {
		errs = append(errs, fmt.Errorf("max_response_header_size: %v is out of range; want 1KiB to %v", size, maxAnswerSize))
	}
	if size := c.MaxBodySize; size < 1 || size > maxAnswerSize {
		errs = append(errs, fmt.Errorf("max_body_size: %v is out of range; want 1B to %v", size, maxAnswerSize))
	}
	return errors.Join(errs...)
}

// validateUnused reports settings for redirects that are not followed, and settings of TLS for calls that have none. A redirect that is
// followed may lead to where TLS is.
func (c Config) validateUnused() error {
	table, err := NewStatusTable(c.Preset, c.Redirects, c.Statuses)
	if err != nil || table.followsAny() {
		return nil
	}
	var errs []error
	if u, err := parseAddress(c.Address); err == nil && u.Scheme != "https" && c.TLS != (setting.TLSConfig{}) {
		errs = append(errs, errors.New("tls: has no effect, since address begins with http://; want https://, or no tls"))
	}
	if len(c.AllowedNetworks) > 0 {
		errs = append(errs, errors.New("allowed_networks: has no effect, since no redirect is followed; want redirects: follow, or none of them"))
	}
	return errors.Join(errs...)
}

// Warnings says what allowed settings cost.
func (c Config) Warnings() error {
	errs := []error{c.Statuses.Warnings()}
	for i, network := range c.AllowedNetworks {
		if setting.IsEverybody(network) {
			errs = append(errs, fmt.Errorf("allowed_networks[%d]: %s lets a redirect lead to any address, those of this node and its "+
				"network too; list the networks of the middleware alone", i, network))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateHeaders() error {
	errs := []error{setting.ValidateHeaderNames("headers", c.Headers)}
	if u, err := parseAddress(c.Address); err == nil && u.User != nil && setting.HasHeader(c.Headers, "Authorization") {
		errs = append(errs, errors.New("headers.Authorization: is sent in the place of the user and password of address; keep one of them"))
	}
	for name, value := range c.Headers {
		switch {
		case !isToken(name) || setting.IsConnectionHeader(name):
			errs = append(errs, fmt.Errorf("headers.%s: not a header that can be set", name))
		case sanitizeHeader(value.Reveal()) != value.Reveal():
			errs = append(errs, fmt.Errorf("headers.%s: the value holds control characters or is too long", name))
		}
	}
	return errors.Join(errs...)
}

// validateSignature also reports headers of the signature that something else sets. Without keys there is no signature.
func (c Config) validateSignature() error {
	if len(c.Signature.Keys) == 0 {
		if unsigned := signature.DefaultConfig(); c.Signature.Header != unsigned.Header ||
			c.Signature.TimestampHeader != unsigned.TimestampHeader || !slices.Equal(c.Signature.SignedHeaders, unsigned.SignedHeaders) {
			return errors.New("signature.keys: none, so that nothing is signed, but other settings of signature are set")
		}
		return nil
	}
	errs := []error{c.Signature.Validate()}
	for i, name := range c.Signature.SignedHeaders {
		if setting.IsConnectionHeader(name) {
			errs = append(errs, fmt.Errorf("signature.signed_headers[%d]: %q belongs to the connection, and is not known when the call is signed", i, name))
		}
	}
	for _, set := range [...]struct{ key, name string }{
		{"header", c.Signature.Header}, {"timestamp_header", c.Signature.TimestampHeader},
	} {
		isTaken := !isToken(set.name) || setting.IsReservedHeader(set.name)
		for name := range staticHeaders(c.Headers, &url.URL{User: url.User("")}) {
			isTaken = isTaken || strings.EqualFold(set.name, name)
		}
		if isTaken {
			errs = append(errs, fmt.Errorf("signature.%s: %q: not a header that can be set, or one that is set already", set.key, set.name))
		}
	}
	return errors.Join(errs...)
}

// parseAddress parses a backend's address. Its errors never quote it, since it may hold a password.
func parseAddress(address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("address: must be set")
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("address: not a URL, such as http://10.0.0.5:8080/check")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("address: must begin with http:// or https://, not %q", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("address: has no host; want a URL such as http://10.0.0.5:8080/check")
	case u.Fragment != "":
		return nil, errors.New("address: has a '#', which is never sent; write %23")
	}
	if err := setting.ValidatePort(u.Port()); err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r >= 0x80 }) {
		name, err := idna.Lookup.ToASCII(u.Hostname())
		if err != nil {
			return nil, fmt.Errorf("address: the host %q is no name that DNS can have: %w", u.Hostname(), err)
		}
		u.Host = strings.Replace(u.Host, u.Hostname(), name, 1)
	}
	return u, nil
}

// WithPath returns the address with path appended and its query kept, for kinds whose config names only the portal. An
// invalid address is left for Validate to report.
func WithPath(address, path string) string {
	base, query, found := strings.Cut(address, "?")
	base = strings.TrimRight(base, "/") + path
	if found {
		return base + "?" + query
	}
	return base
}
