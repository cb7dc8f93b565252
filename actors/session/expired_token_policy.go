package session

import "fmt"

// ExpiredTokenPolicy is what holds for a session whose token has expired (on_expired_token).
type ExpiredTokenPolicy uint8

// The policies.
const (
	// keepOnExpiredToken is the zero value: the session keeps its decision until its viewer sends a new token.
	keepOnExpiredToken ExpiredTokenPolicy = iota
	// denyOnExpiredToken ends the session.
	denyOnExpiredToken
)

// String returns the policy as the config spells it.
func (e ExpiredTokenPolicy) String() string { return [...]string{"keep", "deny"}[e] }

// MarshalText returns the policy as the config spells it.
func (e ExpiredTokenPolicy) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText parses a policy of the config.
func (e *ExpiredTokenPolicy) UnmarshalText(text []byte) error {
	switch string(text) {
	case "keep":
		*e = keepOnExpiredToken
	case "deny":
		*e = denyOnExpiredToken
	default:
		return fmt.Errorf("on_expired_token %q: want keep or deny", text)
	}
	return nil
}
