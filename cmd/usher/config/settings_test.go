package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"usher/backends/setting"
)

// settings are a config as package main's will be, with one field of every type that a file can hold.
type settings struct {
	Listen  string                    `yaml:"listen"`
	Admin   adminSettings             `yaml:"admin"`
	Origins map[string]originSettings `yaml:"origins"`
	// Backends are kinded; two kinds are known: portal and list.
	Backends map[string]*backendSettings `yaml:"backends"`
	Routes   []routeSettings             `yaml:"routes"`
	Cache    cacheSettings               `yaml:"cache"`
	Cluster  clusterSettings             `yaml:"cluster"`
	Trusted  []netip.Prefix              `yaml:"trusted_proxies"`
	Labels   map[string]string           `yaml:"labels"`
	Statuses map[carry]int8              `yaml:"statuses"`
	Matrix   [][]int8                    `yaml:"matrix"`
	Hosts    []hostSettings              `yaml:"hosts"`
}

type adminSettings struct {
	Listen netip.AddrPort `yaml:"listen"`
	Token  setting.Secret `yaml:"token"`
	Debug  *bool          `yaml:"debug,omitempty"`
}

type originSettings struct {
	URL     string        `yaml:"url"`
	Timeout time.Duration `yaml:"timeout"`
}

func (o *originSettings) SetDefaults() { o.Timeout = 5 * time.Second }

type backendSettings struct {
	Kind    string        `yaml:"kind"`
	Timeout time.Duration `yaml:"timeout"`
	Adapter any           `yaml:",inline"`
}

func (b *backendSettings) SetDefaults()    { b.Timeout = 2 * time.Second }
func (b *backendSettings) Kinds() []string { return []string{"portal", "list", "clash"} }
func (b *backendSettings) SetKind(kind, _ string) {
	b.Kind = kind
	switch kind {
	case "portal":
		b.Timeout, b.Adapter = 3*time.Second, &portalSettings{Retries: 1}
	case "list":
		b.Adapter = &listSettings{}
	case "clash":
		b.Adapter = &originSettings{} // it has a timeout of its own: a mistake of ours
	}
}

func (b *backendSettings) MarshalYAML() (any, error) {
	type common struct {
		Kind    string        `yaml:"kind"`
		Timeout time.Duration `yaml:"timeout"`
	}
	switch own := b.Adapter.(type) {
	case *portalSettings:
		return struct {
			Common common          `yaml:",inline"`
			Own    *portalSettings `yaml:",inline"`
		}{common{b.Kind, b.Timeout}, own}, nil
	case *listSettings:
		return struct {
			Common common        `yaml:",inline"`
			Own    *listSettings `yaml:",inline"`
		}{common{b.Kind, b.Timeout}, own}, nil
	default:
		return common{b.Kind, b.Timeout}, nil
	}
}

type portalSettings struct {
	Address string                    `yaml:"address"`
	Retries int8                      `yaml:"retries"`
	Headers map[string]setting.Secret `yaml:"headers"`
}

func (p portalSettings) Validate() error {
	if p.Address == "" {
		return errors.New("address: missing, want the portal's URL")
	}
	return nil
}

type listSettings struct {
	Users []string   `yaml:"users"`
	Limit listLimits `yaml:"limit"`
}

type listLimits struct {
	Most int `yaml:"most"`
}

// Validate speaks from where the backend stands, and once of nothing in particular.
func (l listLimits) Validate() error {
	if l.Most < 0 {
		return errors.Join(fmt.Errorf("limit.most: %d is negative", l.Most), errors.New("http: no limits are kept"))
	}
	return nil
}

type routeSettings struct {
	Path  string `yaml:"path"`
	Carry carry  `yaml:"carry"`
}

func (r *routeSettings) SetDefaults() { r.Carry = "path" }

// hostSettings may be given as the name alone.
type hostSettings struct {
	Name string `yaml:"name"`
	Port int    `yaml:"port"`
}

func (h *hostSettings) UnmarshalText(text []byte) error {
	h.Name = string(text)
	return nil
}

func (h hostSettings) MarshalYAML() (any, error) {
	if h.Port == 0 {
		return h.Name, nil
	}
	type section hostSettings
	return section(h), nil
}

// carry reads its own texts.
type carry string

func (c *carry) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "path", "query", "none":
		*c = carry(s)
		return nil
	default:
		return fmt.Errorf("unknown carrier %q; allowed: none, path, query", s)
	}
}

type cacheSettings struct {
	MaxBytes int64         `yaml:"max_bytes"`
	Ratio    float64       `yaml:"ratio"`
	KeepFor  time.Duration `yaml:"keep_for"`
	Keep     struct {
		For2 int `yaml:"for2"`
		For  int `yaml:"for"`
	} `yaml:"keep"`
}

// Validate speaks of keys in both ways that are allowed: its own, and paths from the top level.
func (c cacheSettings) Validate() error {
	var problems []error
	if c.MaxBytes < 0 {
		problems = append(problems, fmt.Errorf("max_bytes: %d is negative", c.MaxBytes))
	}
	if c.Ratio > 1 {
		problems = append(problems, fmt.Errorf("cache.ratio: %v is more than 1", c.Ratio))
	}
	return errors.Join(problems...)
}

type clusterSettings struct {
	Redis *redisSettings `yaml:"redis,omitempty"`
}

type redisSettings struct {
	Addresses []string       `yaml:"addresses"`
	Password  setting.Secret `yaml:"password"`
}

func (r *redisSettings) SetDefaults() { r.Addresses = []string{"127.0.0.1:6379"} }

func (s settings) Validate() error {
	var problems []error
	for i, route := range s.Routes {
		if !strings.HasPrefix(route.Path, "/") {
			problems = append(problems, fmt.Errorf("routes[%d].path: want a path that begins with /", i))
		}
	}
	if s.Listen == "" {
		problems = append(problems, errors.New("listen: missing"))
	}
	if s.Cache.MaxBytes < 0 { // the cache says so itself: a second telling must not show
		problems = append(problems, fmt.Errorf("cache.max_bytes: %d is negative", s.Cache.MaxBytes))
	}
	return errors.Join(problems...)
}

func defaults() *settings {
	return &settings{
		Listen: ":8080",
		Admin:  adminSettings{Listen: netip.MustParseAddrPort("127.0.0.1:8081")},
		Cache:  cacheSettings{MaxBytes: 1 << 26, Ratio: 0.5, KeepFor: 90 * time.Second},
		Labels: map[string]string{"site": "north"},
	}
}
