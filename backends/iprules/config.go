package iprules

import (
	"errors"
	"fmt"
	"net/netip"

	"usher/backends/setting"
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

// ViewerFields returns none of a viewer's request. The address is no field of it.
func (c Config) ViewerFields() []setting.ViewerField { return nil }

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

// Warnings names the rules that are never reached, because an earlier one has another action for all that they match.
func (c Config) Warnings() error {
	var errs []error
	first := map[netip.Prefix]int{}
	actions := make([]Action, len(c.Rules))
	for i, text := range c.Rules {
		r, err := parseRule(text)
		if err != nil {
			continue // Validate reports it
		}
		actions[i] = r.action
		at := earliest(first, r, i)
		if at < i && actions[at] != r.action {
			errs = append(errs, fmt.Errorf("rules[%d]: %q is never reached: rules[%d], %q, decides before it on all that it matches; "+
				"put it first", i, text, at, c.Rules[at]))
		}
		if _, isKnown := first[r.network]; !isKnown {
			first[r.network] = i
		}
	}
	return errors.Join(errs...)
}

// earliest returns the index of the first rule that matches all that the rule i does; i if there is none. The invalid prefix stands for
// all viewers.
func earliest(first map[netip.Prefix]int, r rule, i int) int {
	at := i
	if all, hasAll := first[netip.Prefix{}]; hasAll {
		at = all
	}
	for bits := r.network.Bits(); bits >= 0 && !r.matchesAll; bits-- {
		wider, _ := r.network.Addr().Prefix(bits) // cannot fail: it is shorter than the network's
		if known, isKnown := first[wider]; isKnown {
			at = min(at, known)
		}
	}
	return at
}
