package iprules

import (
	"errors"
	"fmt"
)

// Config is an iprules backend's own keys.
type Config struct {
	// Rules are lines such as "allow 192.0.2.0/24", of which the first that fits decides: allow, deny or pass (skip), and
	// an address, a network, or all.
	Rules []string `yaml:"rules"`
	// Default is what holds where none fits. The zero value passes.
	Default Action `yaml:"default"`
}

// DefaultConfig has no rules and passes everybody.
func DefaultConfig() Config { return Config{} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	if len(c.Rules) == 0 {
		return errors.New(`rules: none; want at least one, such as "allow 192.0.2.0/24"`)
	}
	var errs []error
	for i, text := range c.Rules {
		if _, err := parseRule(text); err != nil {
			errs = append(errs, fmt.Errorf("rules[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}
