package rules

import "fmt"

// Action is what follows from a rule, or from the answer of a backend that a rule asks.
type Action uint8

// The verbs. NoAction is the zero value: the config does not say.
const (
	NoAction Action = iota
	// Allow and Deny end the check.
	Allow
	Deny
	// Pass goes on to the next rule.
	Pass
	// Fail ends the check with the failure of the backend that was asked, so that the outage policy decides.
	Fail
)

// String is the verb as the config spells it; empty for NoAction.
func (v Action) String() string { return [...]string{"", "allow", "deny", "pass", "fail"}[v] }

// MarshalText spells the verb as the config does.
func (v Action) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what the config spells.
func (v *Action) UnmarshalText(text []byte) error {
	for candidate := NoAction; candidate <= Fail; candidate++ {
		if candidate.String() == string(text) {
			*v = candidate
			return nil
		}
	}
	return fmt.Errorf("verb %q: want allow, deny, pass or fail", text)
}

// orDefault is v, or fallback if the config does not say.
func (v Action) orDefault(fallback Action) Action {
	if v == NoAction {
		return fallback
	}
	return v
}
