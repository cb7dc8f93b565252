package iprules

import (
	"errors"
	"fmt"
)

// Config is an iprules backend's own keys.
type Config struct {
	// Rules are lines such as "allow 192.0.2.0/24": an action (allow, deny, pass or its older name skip), and an address,
	// a network, or all. The first that matches decides.
	Rules []string `yaml:"rules"`
	// Default applies where no rule matches. The zero value passes.
	Default Action `yaml:"default"`
}

// DefaultConfig has no rules and passes every viewer.
func DefaultConfig() Config { return Config{} }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
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
