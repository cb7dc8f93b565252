package admin

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"usher/backends/setting"
	"usher/gateway/admin/access"
	"usher/gateway/admin/audit"
	"usher/gateway/admin/openapi"
)

// Config configures the admin listener.
type Config struct {
	// Listen is the address of the listener, "host:port". Empty means no admin listener.
	Listen string `yaml:"listen"`
	// Token is a bearer token of the API with the name "admin", which may change everything.
	Token setting.Secret `yaml:"token"`
	// Tokens are the other bearer tokens.
	Tokens []access.Token `yaml:"tokens"`
	// Audit is where changes are recorded besides the log.
	Audit audit.Config `yaml:"audit"`
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
	const price = "without TLS: anyone who reaches it reads /metrics, and anyone who reads or guesses the token sees, kicks and bans viewers; " +
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
	return errors.Join(append(errs, access.Validate(c.Token, c.Tokens), c.validateTraceURL())...)
}

// config responds with the settings of this node, secrets hidden.
func (h *handler) config(w http.ResponseWriter, _ *http.Request) {
	var text bytes.Buffer
	if err := h.Settings(&text); err != nil {
		writeText(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = text.WriteTo(w) // it fails only if the client has disconnected
}

// document responds with the description of the API.
func (h *handler) document(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(openapi.Document()) // it fails only if the client has disconnected
}

// validateTraceURL reports a link that would lead nowhere, or that would show a password to the readers of a timeline.
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
