package httpbackend

import (
	"fmt"

	"usher/backends"
)

// Preset is whose way of reading a backend's answers holds, and what viewers are told while it does not answer.
type Preset uint8

// The presets, each named after the product that middlewares were written for. PresetAstra is the zero value.
const (
	PresetAstra Preset = iota
	PresetAlta
	PresetFlussonic
	PresetAuthProxy
)

// String is the preset as the config spells it.
func (p Preset) String() string { return [...]string{"astra", "alta", "flussonic", "auth-proxy"}[p] }

// MarshalText spells the preset as the config does.
func (p Preset) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what the config spells.
func (p *Preset) UnmarshalText(text []byte) error {
	for candidate := PresetAstra; candidate <= PresetAuthProxy; candidate++ {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("preset %q: want astra, alta, flussonic or auth-proxy", text)
}

// Policy is what the product tells viewers while its backend does not answer.
func (p Preset) Policy() backends.Policy {
	switch p {
	case PresetFlussonic:
		return backends.PolicyKeep
	case PresetAuthProxy:
		return backends.PolicyDeny
	default:
		return backends.PolicyAllow
	}
}
