package backends

import "fmt"

// ExpiredToken is what holds for a session whose token has outlived its life (on_expired_token).
type ExpiredToken uint8

// The choices: ExpiredKeep (zero) leaves the session its decision until its viewer comes with a new token;
// ExpiredDeny ends it.
const (
	ExpiredKeep ExpiredToken = iota
	ExpiredDeny
)

// String is the choice as the config spells it.
func (e ExpiredToken) String() string { return [...]string{"keep", "deny"}[e] }

// MarshalText spells the choice as the config does.
func (e ExpiredToken) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what the config spells.
func (e *ExpiredToken) UnmarshalText(text []byte) error {
	switch string(text) {
	case "keep":
		*e = ExpiredKeep
	case "deny":
		*e = ExpiredDeny
	default:
		return fmt.Errorf("on_expired_token %q: want keep or deny", text)
	}
	return nil
}
