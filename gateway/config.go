package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"usher/backends/setting"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/listener"
	"usher/gateway/memory"
	"usher/gateway/reference"
	"usher/gateway/upstream"
)

// Config configures a node's public listener.
type Config struct {
	// Listen is the public listener's address, "host:port"; the host may be empty.
	Listen string `yaml:"listen"`
	// TLS serves HTTPS and HTTP/2 on the public listener; empty: plain HTTP.
	TLS TLSConfig `yaml:"tls"`
	// TrustedProxies are the networks whose X-Forwarded-For, -Proto and -Host are trusted.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// ProxyProtocol says whose connections may begin with a header of the PROXY protocol.
	ProxyProtocol listener.ProxyProtocol `yaml:"proxy_protocol"`

	Identity IdentityConfig           `yaml:"identity"`
	Tickets  TicketsConfig            `yaml:"tickets"`
	CORS     CORSConfig               `yaml:"cors"`
	Limits   LimitsConfig             `yaml:"limits"`
	Drain    DrainConfig              `yaml:"drain"`
	Origins  map[string]*OriginConfig `yaml:"origins"`
	Routes   []RouteConfig            `yaml:"routes"`
}

// TLSConfig names the certificate of a listener. Changed files are loaded without a restart.
type TLSConfig struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// IdentityConfig configures session ids.
type IdentityConfig struct {
	// Secret keys the hash that makes session ids. It is the same on every node and never changes. At least 16 bytes.
	Secret setting.Secret `yaml:"secret"`
}

// TicketsConfig configures how tickets are signed and transported.
type TicketsConfig struct {
	// Keys verify tickets; the first one signs. A retired key moves down the list, and out of it once no viewer can hold
	// a ticket of it.
	Keys []setting.Key `yaml:"keys"`
	// ReviveFor is how old a ticket may be if no node has its session.
	ReviveFor time.Duration `yaml:"revive_for"`
	// Parameter names the query parameter for ticket_in: query, and CookieName the cookie for ticket_in: cookie.
	Parameter  string `yaml:"parameter"`
	CookieName string `yaml:"cookie_name"`
	// MaxURI is how long a URI with a ticket and a reference may be; limits.max_url_size bounds it too. A longer one is not
	// written.
	MaxURI setting.ByteSize `yaml:"max_uri"`
}

// CORSConfig configures which web pages may play.
type CORSConfig struct {
	// AllowedOrigins are the origins of pages that may play; "*" is any. Only pages that are listed by name may send
	// requests with credentials, which routes with ticket_in: cookie need.
	AllowedOrigins []string `yaml:"allowed_origins"`
}

// LimitsConfig bounds what one request and all requests may use.
type LimitsConfig struct {
	// MaxHeaderSize bounds a request's line and header, MaxURLSize its path and query.
	MaxHeaderSize setting.ByteSize `yaml:"max_header_size"`
	MaxURLSize    setting.ByteSize `yaml:"max_url_size"`
	// MaxConcurrentRequests is how many requests are served at once. One more gets 503 and Retry-After.
	MaxConcurrentRequests int `yaml:"max_concurrent_requests"`
	// Connections bound connections.
	Connections listener.Limits `yaml:",inline"`
	// Memory bounds memory.
	Memory memory.Limits `yaml:",inline"`
	// ReadTimeout bounds the arrival of a request's header. IdleTimeout bounds a connection's silence between two requests.
	// WriteTimeout bounds how long a response makes no progress. For a connection of HTTP/2 that takes nothing, a reload does not change it.
	ReadTimeout  time.Duration `yaml:"read_timeout"`
	IdleTimeout  time.Duration `yaml:"idle_timeout"`
	WriteTimeout time.Duration `yaml:"write_timeout"`
}

// DrainConfig configures how a node shuts down.
type DrainConfig struct {
	// ReadinessDelay is how long the node still serves after readiness is off, so that balancers notice. Each response then closes
	// its connection. One that has asked for nothing for so long is closed afterwards.
	ReadinessDelay time.Duration `yaml:"readiness_delay"`
	// Timeout is how long requests may take to finish after that, and how long the backends that a reload has removed or changed wait
	// for those that began before it.
	Timeout time.Duration `yaml:"timeout"`
}

// OriginConfig names an origin, from which routes fetch media.
type OriginConfig struct {
	// URL is the origin's address. Fallback are tried in order when it fails.
	URL      string   `yaml:"url"`
	Fallback []string `yaml:"fallback"`
	// ReusesNames says that playlists list names again for other bytes, as a ring of segments does. Then each URI says of which
	// sequence number and key it is.
	ReusesNames bool `yaml:"reuses_names"`
	// Upstream says what the origin may name, and what it is sent.
	Upstream upstream.Config `yaml:",inline"`
}

// DefaultConfig returns the settings that hold unless the file overrides them.
func DefaultConfig() Config {
	return Config{
		Listen:  ":8080",
		Tickets: TicketsConfig{ReviveFor: 6 * time.Hour, Parameter: "ticket", CookieName: "usher_ticket", MaxURI: 2000},
		CORS:    CORSConfig{AllowedOrigins: []string{"*"}},
		Limits: LimitsConfig{
			MaxHeaderSize:         32 * setting.KiB,
			MaxURLSize:            8 * setting.KiB,
			MaxConcurrentRequests: 100_000,
			Connections:           listener.DefaultLimits(),
			Memory:                memory.DefaultLimits(),
			ReadTimeout:           10 * time.Second,
			IdleTimeout:           75 * time.Second,
			WriteTimeout:          30 * time.Second,
		},
		Drain: DrainConfig{ReadinessDelay: 5 * time.Second, Timeout: 30 * time.Second},
	}
}

// Validate returns an error for every invalid setting, by its path in the file. The backends are the names of those that
// are configured.
func (c Config) Validate(backends []string) error {
	errs := []error{
		c.validateListener(), c.validateSecrets(), c.validateLimits(), c.validateCORS(), c.validateOrigins(),
		c.validateEndpoints(), c.validatePatterns(),
	}
	if len(c.Routes) == 0 {
		errs = append(errs, errors.New(`routes: none; want at least one, such as { path: "/play/{channel}/*", origin: …, backend: … }`))
	}
	names := map[string]int{}
	for i, r := range c.Routes {
		if other, taken := names[r.name()]; taken {
			errs = append(errs, fmt.Errorf("routes[%d].name: %q is the name of routes[%d] already", i, r.name(), other))
		}
		names[r.name()] = i
		errs = append(errs, c.validateRoute(fmt.Sprintf("routes[%d]", i), r, backends))
	}
	return errors.Join(errs...)
}

// maxQuietRevival is how long tickets may be revived without a warning: longer than a restart or an outage lasts.
const maxQuietRevival = 24 * time.Hour

// Warnings says what allowed settings cost.
func (c Config) Warnings() error {
	var errs []error
	for i, p := range c.TrustedProxies {
		if setting.IsEverybody(p) {
			errs = append(errs, fmt.Errorf("trusted_proxies[%d]: %s believes anybody's X-Forwarded-For: viewers choose their address, and with it "+
				"the limits and bans that apply to them; list your load balancers alone", i, p))
		}
	}
	if name := c.Tickets.Parameter; c.isCredential(name) {
		errs = append(errs, fmt.Errorf("tickets.parameter: %q is the name of a credential: what viewers send by it is taken for a ticket, and no "+
			"backend sees it; want another name, such as ticket", name))
	}
	if d := c.Tickets.ReviveFor; d > maxQuietRevival {
		errs = append(errs, fmt.Errorf("tickets.revive_for: %v: a ticket of a session that no node and no Redis remembers opens one without a "+
			"check for so long, even if the viewer's account has ended; want hours", d))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		errs = append(errs, c.Origins[name].warnings("origins."+name))
	}
	for i, r := range c.Routes {
		errs = append(errs, r.warnings(fmt.Sprintf("routes[%d]", i)))
	}
	return errors.Join(errs...)
}

// warnings says what the origin's settings cost.
func (c *OriginConfig) warnings(at string) error {
	var errs []error
	c.eachURL(at, func(key, text string) {
		if u, err := url.Parse(text); err == nil && u.RawQuery != "" {
			errs = append(errs, fmt.Errorf("%s: has a query, which every request to the origin then has, those for segments too; "+
				"leave it out unless the origin wants that", key))
		}
	})
	if c != nil && c.Upstream.FallbackOn404 && len(c.Fallback) == 0 {
		errs = append(errs, fmt.Errorf("%s.fallback_on_404: true has no effect without fallback", at))
	}
	return errors.Join(errs...)
}

// isCredential reports whether a parameter is a credential of a route, or has the name of one.
func (c Config) isCredential(parameter string) bool {
	usual := regexp.MustCompile(`(?i)^(auth|access|jwt|key|login|mac|pass|passw(or)?d|pin|secret|sid|sign|signature|token|uid|user|username)$`)
	return usual.MatchString(parameter) || strings.Contains(strings.ToLower(parameter), "token") ||
		slices.ContainsFunc(c.Routes, func(r RouteConfig) bool {
			return slices.Contains(r.Credentials, parameter) || slices.Contains(r.Required, parameter)
		})
}

// unenforcedRoutes returns the names of the routes that refuse nobody.
func (c Config) unenforcedRoutes() []string {
	var names []string
	for _, r := range c.Routes {
		if r.Enforce == enforcement.Unenforced {
			names = append(names, r.name())
		}
	}
	return names
}

func (c Config) validateListener() error {
	var errs []error
	if err := setting.ValidateListen(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("listen: %w", err))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("tls: certificate and key go together; one of them is missing"))
	}
	return errors.Join(errs...)
}

func (c Config) validateSecrets() error {
	var errs []error
	if n := len(c.Identity.Secret.Reveal()); n < setting.MinSecretSize {
		errs = append(errs, fmt.Errorf("identity.secret: has %d bytes; want at least %d, the same on every node", n, setting.MinSecretSize))
	}
	if len(c.Tickets.Keys) == 0 {
		errs = append(errs, errors.New("tickets.keys: none; want at least one, such as { id: a, secret: \"file:/etc/usher/ticket.key\" }"))
	}
	errs = append(errs, setting.ValidateKeys("tickets.keys", c.Tickets.Keys))
	if c.Tickets.ReviveFor < time.Minute || c.Tickets.ReviveFor > 30*24*time.Hour {
		errs = append(errs, fmt.Errorf("tickets.revive_for: %v is out of range; want 1m to 30d", c.Tickets.ReviveFor))
	}
	token := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	if !token.MatchString(c.Tickets.Parameter) {
		errs = append(errs, fmt.Errorf("tickets.parameter: %q: want letters, digits, _ and -", c.Tickets.Parameter))
	}
	if !token.MatchString(c.Tickets.CookieName) {
		errs = append(errs, fmt.Errorf("tickets.cookie_name: %q: want letters, digits, _ and -", c.Tickets.CookieName))
	}
	return errors.Join(errs...)
}

// maxHeaderSize is far more than any player sends, and bounds what each connection may make the node keep of a request.
const maxHeaderSize = 16 * setting.MiB

func (c Config) validateLimits() error {
	var errs []error
	for _, s := range []struct {
		key              string
		value, low, high setting.ByteSize
	}{
		{"limits.max_header_size", c.Limits.MaxHeaderSize, 4 * setting.KiB, maxHeaderSize},
		{"limits.max_url_size", c.Limits.MaxURLSize, 256, maxHeaderSize},
		{"tickets.max_uri", c.Tickets.MaxURI, 256, reference.MaxChars},
	} {
		if s.value < s.low {
			errs = append(errs, fmt.Errorf("%s: %v is too small; want at least %v", s.key, s.value, s.low))
		}
		if s.value > s.high {
			errs = append(errs, fmt.Errorf("%s: %v is too large; want at most %v", s.key, s.value, s.high))
		}
	}
	if c.Limits.MaxConcurrentRequests < 1 {
		errs = append(errs, fmt.Errorf("limits.max_concurrent_requests: %d is too small; want at least 1", c.Limits.MaxConcurrentRequests))
	}
	for _, d := range []struct {
		key        string
		value, low time.Duration
	}{
		{"limits.read_timeout", c.Limits.ReadTimeout, time.Second},
		{"limits.idle_timeout", c.Limits.IdleTimeout, time.Second},
		{"limits.write_timeout", c.Limits.WriteTimeout, time.Second},
		{"drain.readiness_delay", c.Drain.ReadinessDelay, 0},
		{"drain.timeout", c.Drain.Timeout, time.Second},
	} {
		if d.value < d.low {
			errs = append(errs, fmt.Errorf("%s: %v is too short; want at least %v", d.key, d.value, d.low))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateOrigins() error {
	var errs []error
	if len(c.Origins) == 0 && slices.ContainsFunc(c.Routes, func(r RouteConfig) bool { return r.Edge == nil }) {
		errs = append(errs, errors.New("origins: none; want at least one, such as astra: { url: \"http://10.0.0.5:8000\" }"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		c.Origins[name].eachURL("origins."+name, func(key, text string) { errs = append(errs, c.Origins[name].validateURL(key, text)) })
		errs = append(errs, c.validateTLSUse(name))
	}
	return errors.Join(errs...)
}

// validateTLSUse reports settings of TLS for an origin that is only reached without it. It may redirect to another origin.
func (c Config) validateTLSUse(name string) error {
	o, usesTLS := c.Origins[name], false
	if o == nil || o.Upstream.TLS == (setting.TLSConfig{}) || len(o.Upstream.RedirectHosts) > 0 {
		return nil
	}
	for _, other := range c.Origins {
		other.eachURL("", func(_, text string) { usesTLS = usesTLS || strings.HasPrefix(strings.ToLower(text), "https:") })
	}
	if usesTLS {
		return nil
	}
	return fmt.Errorf("origins.%s.tls: has no effect, since no address of the origin begins with https://, and no server is known to which it "+
		"may redirect; want https://, redirect_hosts, or no tls", name)
}

// validateURL reports why an address of the origin cannot be asked.
func (c *OriginConfig) validateURL(key, text string) error {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "" {
		return fmt.Errorf(`%s: %q: want http://host:port or https://host:port, with or without a path`, key, withoutUser(text))
	}
	if err := setting.ValidatePort(u.Port()); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if upstream.Canonical(u.Scheme, u.Host) == "" {
		return fmt.Errorf("%s: %q is no host; want a name of letters, digits, - and _, or an address", key, u.Host)
	}
	if u.User != nil && setting.HasHeader(c.Upstream.Headers, "Authorization") {
		return fmt.Errorf("%s: has a user, and headers.Authorization is sent in its place; keep one of them", key)
	}
	return nil
}

// URLs returns the origin's addresses, the preferred one first.
func (c *OriginConfig) URLs() ([]*url.URL, error) {
	var urls []*url.URL
	for _, text := range append([]string{c.URL}, c.Fallback...) {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// Backends returns the names of the backends of each route, by the route's name: the one that decides on viewers, and the one
// that decides on publishers, or "".
func (c Config) Backends() map[string][2]string {
	all := map[string][2]string{}
	for _, r := range c.Routes {
		names := [2]string{r.Backend}
		if r.Edge != nil {
			names[1] = r.Edge.PublishBackend
		}
		all[r.name()] = names
	}
	return all
}

// HoldsTickets reports whether viewers of the route of that name hold tickets. An edge passes none on, unless it matches by cookie.
func (c Config) HoldsTickets(route string) bool {
	return !slices.ContainsFunc(c.Routes, func(r RouteConfig) bool {
		return r.name() == route && r.Edge != nil && r.Edge.MatchBy.OrDefault(r.Edge.Dialect) != edge.MatchByCookie
	})
}

// eachURL calls f with the setting of every address of the origin, and the address.
func (c *OriginConfig) eachURL(key string, f func(key, text string)) {
	if c == nil {
		c = &OriginConfig{}
	}
	f(key+".url", c.URL)
	for i, text := range c.Fallback {
		f(fmt.Sprintf("%s.fallback[%d]", key, i), text)
	}
}

// withoutUser hides the user and password in the text of an address, valid or not.
func withoutUser(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	scheme, _, found := strings.Cut(address, "://")
	if !found || len(scheme) > at {
		return setting.Hidden + address[at:]
	}
	return scheme + "://" + setting.Hidden + address[at:]
}
