package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"usher/backends/setting"
)

// Config says what an origin may name, and what it is sent.
type Config struct {
	// RedirectHosts are the hosts to which the origin may redirect, and which its playlists may name.
	RedirectHosts []RedirectHost `yaml:"redirect_hosts"`
	// PublicNames are hosts whose URIs in playlists mean the origin itself.
	PublicNames []string `yaml:"public_names"`
	// AllowedNetworks are the networks besides the internet in which a redirect host may be.
	AllowedNetworks []netip.Prefix `yaml:"allowed_networks"`
	// Headers are sent with every request to the origin's own addresses, and to redirect hosts with send_headers.
	Headers map[string]setting.Secret `yaml:"headers"`
	// KeepCookies sends the cookies that the origin sets with later requests, to the same hosts as Headers.
	KeepCookies bool `yaml:"keep_cookies"`
	// TLS configures the connections over TLS. Changed files are loaded without a restart, for new connections. CAFile holds for
	// redirect hosts too; CertFile is for the hosts that get Headers, and ServerName for the origin's own addresses.
	TLS setting.TLSConfig `yaml:"tls"`
	// FallbackOn404 asks the next address for what an address does not have.
	FallbackOn404 bool `yaml:"fallback_on_404"`
}

// RedirectHost is an entry of redirect_hosts: a host's name, "*." and a name, or an IP address, with or without a port. In
// a file it is the host alone, or a section.
type RedirectHost struct {
	Host string `yaml:"host"`
	// SendHeaders sends the origin's headers and cookies to the host too.
	SendHeaders bool `yaml:"send_headers"`
}

// UnmarshalText reads an entry that is written as the host alone.
func (r *RedirectHost) UnmarshalText(text []byte) error {
	*r = RedirectHost{Host: string(text)}
	return nil
}

// MarshalYAML returns the shortest form of the entry.
func (r RedirectHost) MarshalYAML() (any, error) {
	if !r.SendHeaders {
		return r.Host, nil
	}
	type section RedirectHost
	return section(r), nil
}

// Validate returns an error for every invalid setting.
func (c Config) Validate() error {
	_, err := NewHosts(nil, nil, c)
	errs := []error{err, c.TLS.Validate(), setting.ValidateHeaderNames("headers", c.Headers)}
	for name, value := range c.Headers {
		switch {
		case !isToken(name), slices.Contains(ownHeaders(), strings.ToLower(name)):
			errs = append(errs, fmt.Errorf("headers.%s: is not a header field that can be set", name))
		case strings.ContainsFunc(value.Reveal(), isControl):
			errs = append(errs, fmt.Errorf("headers.%s: the value has control characters", name))
		}
	}
	return errors.Join(errs...)
}

// Warnings says what allowed settings cost.
func (c Config) Warnings() error {
	var errs []error
	for i, network := range c.AllowedNetworks {
		if setting.IsEverybody(network) {
			errs = append(errs, fmt.Errorf("allowed_networks[%d]: %s lets redirect_hosts lead to any address, those of this node and its "+
				"network too; list the networks of the edges alone", i, network))
		}
	}
	return errors.Join(errs...)
}

// ownHeaders returns the header fields that the gateway or the connection sets.
func ownHeaders() []string {
	return []string{
		"accept-encoding", "connection", "content-length", "expect", "host", "if-modified-since", "if-none-match", "keep-alive",
		"range", "te", "trailer", "transfer-encoding", "upgrade",
	}
}

// isToken reports whether a text may be the name of a header field.
func isToken(name string) bool {
	const others = "!#$%&'*+-.^_`|~"
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		isAlphanumeric := '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !isAlphanumeric && !strings.ContainsRune(others, r)
	})
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
