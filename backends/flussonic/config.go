package flussonic

import (
	"usher/backends/httpbackend"
)

// Config is a flussonic backend's own keys: those of every HTTP backend, and one more.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
	// AutoToken asks about a viewer without a token by one made for him, the session's id, as Flussonic does unless
	// no_auto_token is set. False: he is denied without a call.
	AutoToken bool `yaml:"auto_token"`
}

// DefaultConfig has everything but the address.
func DefaultConfig() Config {
	cfg := Config{HTTP: httpbackend.DefaultConfig(), AutoToken: true}
	cfg.HTTP.Preset = httpbackend.PresetFlussonic
	return cfg
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error { return c.HTTP.Validate() }
