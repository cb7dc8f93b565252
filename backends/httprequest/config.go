package httprequest

import "usher/backends/httpbackend"

// Config is an httprequest backend's own keys: those of every HTTP backend. Only the address has no default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
}

// DefaultConfig has everything but the address.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error { return c.HTTP.Validate() }
