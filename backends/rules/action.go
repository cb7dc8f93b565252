package rules

import "fmt"

// Verb is what follows from a rule, or from the answer of a backend that a rule asks.
type Verb uint8

// The verbs. NoVerb is the zero value: the config does not say.
const (
	NoVerb Verb = iota
	// Allow and Deny end the check.
	Allow
	Deny
	// Pass goes on to the next rule.
	Pass
	// Fail ends the check with the failure of the backend that was asked, so that the outage policy decides.
	Fail
)

// String is the verb as the config spells it; empty for NoVerb.
func (v Verb) String() string { return [...]string{"", "allow", "deny", "pass", "fail"}[v] }

// MarshalText spells the verb as the config does.
func (v Verb) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what the config spells.
func (v *Verb) UnmarshalText(text []byte) error {
	for candidate := NoVerb; candidate <= Fail; candidate++ {
		if candidate.String() == string(text) {
			*v = candidate
			return nil
		}
	}
	return fmt.Errorf("verb %q: want allow, deny, pass or fail", text)
}

// or is v, or fallback if the config does not say.
func (v Verb) or(fallback Verb) Verb {
	if v == NoVerb {
		return fallback
	}
	return v
}
