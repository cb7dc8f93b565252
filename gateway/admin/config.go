package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

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
	// TraceURL is where the traces of a session are shown. "{session}" in it is the session's id. Empty: a timeline has no link.
	TraceURL string `yaml:"trace_url"`
}

// sessionInURL stands for a session's id in TraceURL.
const sessionInURL = "{session}"

// DefaultConfig returns the defaults: no admin listener.
func DefaultConfig() Config { return Config{} }

// Warnings says what a listener costs that the internet may reach.
func (c Config) Warnings() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil
	}
	const price = "without TLS: whoever reaches it reads /metrics, and whoever reads or guesses the token sees, kicks and bans viewers; " +
		"listen on 127.0.0.1 or on an address of the operators' network"
	switch ip, _ := netip.ParseAddr(host); {
	case host == "" || ip.IsUnspecified():
		return fmt.Errorf("listen: %q listens on every network of this machine "+price, c.Listen)
	case setting.IsPublic(host):
		return fmt.Errorf("listen: %q is a public address "+price, c.Listen)
	}
	return nil
}

// Validate reports every invalid setting.
func (c Config) Validate() error {
	if c.Listen == "" {
		return nil
	}
	var errs []error
	if err := setting.ValidateListen(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("listen: %w", err))
	}
	if n := len(c.Token.Reveal()); n < minTokenLength {
		errs = append(errs, fmt.Errorf("token: has %d characters; want at least %d", n, minTokenLength))
	}
	errs = append(errs, c.validateTraceURL())
	return errors.Join(errs...)
}

// validateTraceURL reports a link that would lead nowhere, or that would show a password to who reads a timeline.
func (c Config) validateTraceURL() error {
	const example = `want a URL such as http://jaeger:16686/search?service=usher&tags=%7B%22session.id%22%3A%22` + sessionInURL + `%22%7D`
	if c.TraceURL == "" {
		return nil
	}
	u, err := url.Parse(strings.ReplaceAll(c.TraceURL, sessionInURL, "id"))
	switch {
	case err != nil:
		return errors.New("trace_url: is not a URL; " + example)
	case u.User != nil:
		return errors.New("trace_url: has a user or a password, which every reader of a timeline would see; " + example)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("trace_url: %q is no address of a trace UI; %s", c.TraceURL, example)
	case !strings.Contains(c.TraceURL, sessionInURL):
		return fmt.Errorf("trace_url: %q has no %s, where the session's id goes; %s", c.TraceURL, sessionInURL, example)
	}
	return nil
}
