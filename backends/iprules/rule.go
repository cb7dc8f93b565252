package iprules

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"usher/backends/setting"
)

// Action is what a rule does with the viewers that it matches.
type Action uint8

// The actions. Pass is the zero value: no opinion.
const (
	Pass Action = iota
	Allow
	Deny
)

// String returns the action as the config spells it.
func (a Action) String() string { return [...]string{"pass", "allow", "deny"}[a] }

// MarshalText writes the action as the config spells it.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the config's spelling, and Alta's older name for pass.
func (a *Action) UnmarshalText(text []byte) error {
	switch string(text) {
	case "pass", "skip":
		*a = Pass
	case "allow":
		*a = Allow
	case "deny":
		*a = Deny
	default:
		return fmt.Errorf("%q: want allow, deny or pass", text)
	}
	return nil
}

// rule is one parsed line.
type rule struct {
	action  Action
	network netip.Prefix
	// matchesAll also matches viewers without an address. network is then unset.
	matchesAll bool
}

var errNetwork = errors.New(`want an address, a network such as 192.0.2.0/24 or 2001:db8::/32, or "all"`)

// parseRule reads "allow 192.0.2.0/24".
func parseRule(text string) (rule, error) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return rule{}, fmt.Errorf(`%q: want an action and a network, such as "allow 192.0.2.0/24"`, text)
	}
	var r rule
	if err := r.action.UnmarshalText([]byte(fields[0])); err != nil {
		return rule{}, err
	}
	if fields[1] == "all" {
		r.matchesAll = true
		return r, nil
	}
	network, err := setting.ParseNetwork(fields[1], errNetwork)
	if err != nil {
		return rule{}, fmt.Errorf("%q: %w", fields[1], err)
	}
	r.network = network
	return r, nil
}
