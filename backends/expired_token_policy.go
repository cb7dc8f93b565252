package backends

import "fmt"

// ExpiredTokenPolicy is what holds for a session whose token has outlived its life (on_expired_token).
type ExpiredTokenPolicy uint8

// The choices: KeepOnExpiredToken (zero) leaves the session its decision until its viewer comes with a new token;
// DenyOnExpiredToken ends it.
const (
	KeepOnExpiredToken ExpiredTokenPolicy = iota
	DenyOnExpiredToken
)

// String is the choice as the config spells it.
func (e ExpiredTokenPolicy) String() string { return [...]string{"keep", "deny"}[e] }

// MarshalText spells the choice as the config does.
func (e ExpiredTokenPolicy) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what the config spells.
func (e *ExpiredTokenPolicy) UnmarshalText(text []byte) error {
	switch string(text) {
	case "keep":
		*e = KeepOnExpiredToken
	case "deny":
		*e = DenyOnExpiredToken
	default:
		return fmt.Errorf("on_expired_token %q: want keep or deny", text)
	}
	return nil
}
