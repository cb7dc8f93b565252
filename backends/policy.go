package backends

import "fmt"

// Policy is what viewers are told while a backend does not answer (on_failure).
type Policy uint8

// The policies. PolicyFromPreset is the zero value: the backend's preset says which of the others holds.
const (
	PolicyFromPreset Policy = iota
	// PolicyAllow: running sessions keep their last decision, unknown viewers are let in. Astra's way.
	PolicyAllow
	// PolicyKeep: running sessions keep their last decision, unknown viewers are asked to come back. Flussonic's way.
	PolicyKeep
	// PolicyDeny: nobody watches without a fresh yes.
	PolicyDeny
)

// String is the policy as the config spells it; empty for PolicyFromPreset.
func (p Policy) String() string { return [...]string{"", "allow", "keep", "deny"}[p] }

// MarshalText spells the policy as the config does.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what the config spells.
func (p *Policy) UnmarshalText(text []byte) error {
	for candidate := PolicyFromPreset; candidate <= PolicyDeny; candidate++ {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("on_failure %q: want allow, keep or deny", text)
}

// Or is p, or fallback if p leaves the choice to the preset.
func (p Policy) Or(fallback Policy) Policy {
	if p == PolicyFromPreset {
		return fallback
	}
	return p
}
