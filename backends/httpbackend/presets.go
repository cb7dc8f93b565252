package httpbackend

import (
	"fmt"

	"usher/backends"
)

// Preset names the product whose way of reading statuses holds, and whose outage policy is the default.
type Preset uint8

// The presets. Each is named after the product that the middleware was written for. PresetAstra is the zero value.
const (
	PresetAstra Preset = iota
	PresetAlta
	PresetFlussonic
	PresetAuthProxy
)

// String returns the preset as the config spells it.
func (p Preset) String() string { return [...]string{"astra", "alta", "flussonic", "auth-proxy"}[p] }

// MarshalText returns the preset as the config spells it.
func (p Preset) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText parses a preset of the config.
func (p *Preset) UnmarshalText(text []byte) error {
	for candidate := PresetAstra; candidate <= PresetAuthProxy; candidate++ {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("preset %q: want astra, alta, flussonic or auth-proxy", text)
}

// Policy returns the product's outage policy.
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

// relaysRedirects reports whether the product sends viewers where X-Location says.
func relaysRedirects(p Preset) bool {
	return p == PresetAstra || p == PresetFlussonic
}

// hasStatusFailures reports whether the product takes some statuses for failures, and not every one but 200 for a denial.
func hasStatusFailures(p Preset) bool {
	return p == PresetAstra || p == PresetFlussonic
}

// presetRule is the meaning of one status, or of one class of statuses ("4xx").
type presetRule struct {
	pattern string
	meaning statusMeaning
}

// presetRules returns the product's rules. A status wins over its class. A status without a rule denies, with an alarm.
func presetRules(p Preset) []presetRule {
	yes, no := statusMeaning{outcome: OutcomeAllow}, statusMeaning{outcome: OutcomeDeny}
	failure := statusMeaning{outcome: OutcomeFailure}
	rules := []presetRule{{"200", yes}, {"401", no}, {"403", no}}
	if p != PresetAstra { // Astra alone has an alarm for a status that its manual does not name
		rules = append(rules, presetRule{"2xx", no})
	}
	switch p {
	case PresetAstra:
		// 404 means a wrong address, which Astra's manual lists among the reasons of free access.
		wrongAddress := statusMeaning{OutcomeFailure, []backends.Alarm{backends.AlarmWrongAddress}}
		return append(rules, presetRule{"404", wrongAddress}, presetRule{"429", failure}, presetRule{"5xx", failure},
			presetRule{"3xx", statusMeaning{outcome: OutcomeRedirect}})
	case PresetFlussonic:
		return append(rules, presetRule{"4xx", no}, presetRule{"429", failure}, presetRule{"5xx", failure},
			presetRule{"3xx", statusMeaning{outcome: OutcomeRedirect}})
	case PresetAlta:
		return append(rules, presetRule{"3xx", no}, presetRule{"4xx", no}, presetRule{"5xx", no})
	default:
		return append(rules, presetRule{"4xx", no}, presetRule{"5xx", no},
			presetRule{"3xx", statusMeaning{outcome: OutcomeFollow}})
	}
}
