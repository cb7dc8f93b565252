package httpbackend

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/backends"
)

// Config is what every adapter that asks over HTTP has in common.
type Config struct {
	// URL is where to ask, as the middleware's manual gives it. It may hold a query and user:password@.
	URL string `yaml:"url"`
	// Headers are sent with every call, over any that a viewer sent.
	Headers map[string]backends.Secret `yaml:"headers"`
	// Preset says how answers are read; Statuses overrides single ones.
	Preset   Preset   `yaml:"preset"`
	Statuses Statuses `yaml:"statuses"`
	// RequireHeader is a header, "Name" or "Name: value", and RequireBody a regular expression for the body, without
	// which a yes is no answer: something else than the backend said 200. Empty: nothing is required.
	RequireHeader string `yaml:"require_header"`
	RequireBody   string `yaml:"require_body"`

	// DialTimeout bounds reaching the backend, TLS handshake not included; TLSTimeout bounds that. The call's own
	// timeout holds as well.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	TLSTimeout  time.Duration `yaml:"tls_timeout"`
	// IdleTimeout is how long a connection is kept for the next call.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxResponseHeaderSize and MaxBodySize bound an answer, in bytes. What is larger is malformed.
	MaxResponseHeaderSize backends.ByteSize `yaml:"max_response_header_size"`
	MaxBodySize           backends.ByteSize `yaml:"max_body_size"`

	TLS backends.TLSConfig `yaml:"tls"`
}

// DefaultConfig has everything but the address.
func DefaultConfig() Config {
	return Config{
		DialTimeout:           time.Second,
		TLSTimeout:            2 * time.Second,
		IdleTimeout:           time.Minute,
		MaxResponseHeaderSize: 16 * backends.KiB,
		MaxBodySize:           64 * backends.KiB,
	}
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	_, err := parseAddress(c.URL)
	_, wrong := newRequired(c)
	errs := []error{err, c.Statuses.Validate(), wrong}
	for _, bound := range []struct {
		key   string
		value time.Duration
	}{
		{"dial_timeout", c.DialTimeout},
		{"tls_timeout", c.TLSTimeout},
		{"idle_timeout", c.IdleTimeout},
	} {
		if bound.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %s must be above 0", bound.key, bound.value))
		}
	}
	if c.MaxResponseHeaderSize < backends.KiB {
		errs = append(errs, fmt.Errorf("max_response_header_size: %v must be at least 1KiB", c.MaxResponseHeaderSize))
	}
	if c.MaxBodySize < 1 {
		errs = append(errs, fmt.Errorf("max_body_size: %v must be at least 1B", c.MaxBodySize))
	}
	return errors.Join(append(errs, c.validateHeaders(), c.TLS.Validate())...)
}

func (c Config) validateHeaders() error {
	var errs []error
	for name, value := range c.Headers {
		switch {
		case !isToken(name) || slices.Contains(connectionHeaders(), strings.ToLower(name)):
			errs = append(errs, fmt.Errorf("headers.%s: not a header that can be set", name))
		case clean(value.Reveal()) != value.Reveal():
			errs = append(errs, fmt.Errorf("headers.%s: the value holds control characters or is too long", name))
		}
	}
	return errors.Join(errs...)
}

// parseAddress reads a backend's address. Its messages never show it whole: it may hold a password.
func parseAddress(address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("url: must be set")
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("url: not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("url: must begin with http:// or https://, not %q", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("url: has no host")
	case u.Fragment != "":
		return nil, errors.New("url: has a '#', which is never sent; write %23")
	}
	return u, nil
}

// WithPath is the address with path appended to its own, its query kept. It serves kinds whose config names only the
// portal. What is wrong with the address is left for Validate to say.
func WithPath(address, path string) string {
	base, query, found := strings.Cut(address, "?")
	base = strings.TrimRight(base, "/") + path
	if found {
		return base + "?" + query
	}
	return base
}
