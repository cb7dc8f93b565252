package httprequest

import (
	"usher/backends/httpbackend"
	"usher/backends/setting"
)

// Config is an httprequest backend's own keys: those of every HTTP backend. Only the address has no default.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
}

// DefaultConfig returns all defaults. Only the address has none.
func DefaultConfig() Config { return Config{HTTP: httpbackend.DefaultConfig()} }

// SetPreset sets the preset, and the defaults that depend on it.
func (c *Config) SetPreset(p httpbackend.Preset) { c.HTTP.SetPreset(p) }

// ViewerFields returns none of a viewer's request. A middleware may read any of it.
func (c Config) ViewerFields() []setting.ViewerField { return nil }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error { return c.HTTP.Validate() }
