package rules

import "fmt"

// Action is the effect of a rule, or of the result of the backend that a rule checks with.
type Action uint8

// The actions. NoAction is the zero value: not configured.
const (
	NoAction Action = iota
	// Allow and Deny end the check.
	Allow
	Deny
	// Pass continues with the next rule.
	Pass
	// Fail ends the check with the backend's failure, so that the outage policy decides.
	Fail
)

// String returns the action as the config spells it; empty for NoAction.
func (a Action) String() string { return [...]string{"", "allow", "deny", "pass", "fail"}[a] }

// MarshalText writes the action as the config spells it.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the config's spelling.
func (a *Action) UnmarshalText(text []byte) error {
	for candidate := NoAction; candidate <= Fail; candidate++ {
		if candidate.String() == string(text) {
			*a = candidate
			return nil
		}
	}
	return fmt.Errorf("action %q: want allow, deny, pass or fail", text)
}

// orDefault returns a, or the default if a is not configured.
func (a Action) orDefault(otherwise Action) Action {
	if a == NoAction {
		return otherwise
	}
	return a
}
