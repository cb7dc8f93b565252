package flussonic

import (
	"usher/backends/httpbackend"
	"usher/backends/setting"
)

// Config is a flussonic backend's own keys: those of every HTTP backend, and one more.
type Config struct {
	HTTP httpbackend.Config `yaml:",inline"`
	// AutoToken checks a viewer without a token under a generated one, the session's id, as Flussonic does unless
	// no_auto_token is set. False denies them without a call.
	AutoToken bool `yaml:"auto_token"`
}

// DefaultConfig returns all defaults. Only the address has none.
func DefaultConfig() Config {
	cfg := Config{HTTP: httpbackend.DefaultConfig(), AutoToken: true}
	cfg.HTTP.Preset = httpbackend.PresetFlussonic
	return cfg
}

// SetPreset sets the preset, and the defaults that depend on it.
func (c *Config) SetPreset(p httpbackend.Preset) { c.HTTP.SetPreset(p) }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error { return c.HTTP.Validate() }

// ViewerFields returns what the settings read of a viewer's request.
func (c Config) ViewerFields() []setting.ViewerField {
	if c.AutoToken {
		return nil
	}
	return []setting.ViewerField{{Setting: "auto_token", Parameter: "token", Credential: "token"}}
}
