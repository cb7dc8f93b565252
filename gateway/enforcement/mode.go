package enforcement

import "fmt"

// Mode is whether a route refuses viewers. Its text form is true or false, the value of the setting enforce.
type Mode uint8

// The modes.
const (
	// Enforced refuses.
	Enforced Mode = iota
	// Unenforced refuses nobody, and records who would have been refused.
	Unenforced
)

// String returns the value of the setting.
func (m Mode) String() string { return [...]string{"true", "false"}[m] }

// MarshalText returns the value of the setting.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalYAML returns the value of the setting without quotes.
func (m Mode) MarshalYAML() (any, error) { return m == Enforced, nil }

// UnmarshalText reads the value of the setting.
func (m *Mode) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true":
		*m = Enforced
	case "false":
		*m = Unenforced
	default:
		return fmt.Errorf("enforce: %q: want true or false", text)
	}
	return nil
}
