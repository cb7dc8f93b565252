package httpbackend

import "usher/backends"

// relays reports whether a viewer who is denied may be sent elsewhere.
func relays(p Preset) bool {
	return p == PresetAstra || p == PresetFlussonic
}

// presetRule is what one status, or one class of them ("4xx"), means.
type presetRule struct {
	pattern string
	means   meaning
}

// presetRules are the product's readings; a status wins over its class. What none of them names is a No, with an alarm.
func presetRules(p Preset) []presetRule {
	yes, no := meaning{outcome: OutcomeAllow}, meaning{outcome: OutcomeDeny}
	failure := meaning{outcome: OutcomeFailure}
	rules := []presetRule{{"200", yes}, {"401", no}, {"403", no}}
	if p != PresetAstra { // which alone has an alarm for what its manual does not name
		rules = append(rules, presetRule{"2xx", no})
	}
	switch p {
	case PresetAstra:
		// 404 is a wrong address, which Astra's manual lists among the reasons of free access.
		wrongAddress := meaning{OutcomeFailure, []backends.Alarm{backends.AlarmWrongAddress}}
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
