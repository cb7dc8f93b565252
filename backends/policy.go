package backends

import "fmt"

// Policy is the outage policy (on_failure): what holds for viewers while a backend does not answer.
type Policy uint8

// The policies.
const (
	// policyFromPreset is the zero value: the backend's preset says which of the others holds.
	policyFromPreset Policy = iota
	// PolicyAllow keeps the decisions of running sessions and admits unknown viewers, as Astra does.
	PolicyAllow
	// PolicyKeep keeps the decisions of running sessions and asks unknown viewers to retry, as Flussonic does.
	PolicyKeep
	// PolicyDeny denies every viewer without a fresh yes: a decision that is still valid holds, and no other does.
	PolicyDeny
)

// String returns the policy as the config spells it; empty for policyFromPreset.
func (p Policy) String() string { return [...]string{"", "allow", "keep", "deny"}[p] }

// MarshalText returns the policy as the config spells it.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText parses a policy of the config.
func (p *Policy) UnmarshalText(text []byte) error {
	for candidate := policyFromPreset; candidate <= PolicyDeny; candidate++ {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("on_failure %q: want allow, keep or deny", text)
}

// Or returns p, or fallback if p is policyFromPreset.
func (p Policy) Or(fallback Policy) Policy {
	if p == policyFromPreset {
		return fallback
	}
	return p
}
