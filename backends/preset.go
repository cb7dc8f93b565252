package backends

import "fmt"

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
func (p Preset) Policy() Policy {
	switch p {
	case PresetFlussonic:
		return PolicyKeep
	case PresetAuthProxy:
		return PolicyDeny
	default:
		return PolicyAllow
	}
}

// relays reports whether a viewer who is denied may be sent elsewhere.
func (p Preset) relays() bool { return p == PresetAstra || p == PresetFlussonic }

// presetRule is what one status, or one class of them ("4xx"), means.
type presetRule struct {
	pattern string
	means   meaning
}

// rules are the product's readings; a status wins over its class. What none of them names is a No, with an alarm.
func (p Preset) rules() []presetRule {
	yes, no := meaning{outcome: OutcomeAllow}, meaning{outcome: OutcomeDeny}
	failure := meaning{outcome: OutcomeFailure}
	rules := []presetRule{{"200", yes}, {"401", no}, {"403", no}}
	if p != PresetAstra { // which alone has an alarm for what its manual does not name
		rules = append(rules, presetRule{"2xx", no})
	}
	switch p {
	case PresetAstra:
		// 404 is a wrong address, which Astra's manual lists among the reasons of free access.
		wrongAddress := meaning{OutcomeFailure, []Alarm{AlarmWrongAddress}}
		return append(rules, presetRule{"404", wrongAddress}, presetRule{"429", failure}, presetRule{"5xx", failure},
			presetRule{"3xx", meaning{outcome: OutcomeRedirect}})
	case PresetFlussonic:
		return append(rules, presetRule{"4xx", no}, presetRule{"429", failure}, presetRule{"5xx", failure},
			presetRule{"3xx", meaning{outcome: OutcomeRedirect}})
	case PresetAlta:
		return append(rules, presetRule{"3xx", no}, presetRule{"4xx", no}, presetRule{"5xx", no})
	default:
		return append(rules, presetRule{"4xx", no}, presetRule{"5xx", no},
			presetRule{"3xx", meaning{outcome: OutcomeFollow}})
	}
}
