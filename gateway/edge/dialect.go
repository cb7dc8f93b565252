package edge

import (
	"fmt"
	"strings"
)

// Dialect is how an edge asks and wants to be answered. The zero value is none: nobody asks so.
type Dialect uint8

// The dialects.
const (
	NoDialect Dialect = iota
	Astra
	Alta
	Flussonic
	Nginx
	ForwardAuth
	Envoy
	numDialects
)

// String is the dialect as the config spells it.
func (d Dialect) String() string {
	return [...]string{"", "astra", "alta", "flussonic", "nginx", "forward-auth", "envoy"}[d]
}

// MarshalText spells the dialect as the config does.
func (d Dialect) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what the config spells.
func (d *Dialect) UnmarshalText(text []byte) error {
	var names []string
	for candidate := Astra; candidate < numDialects; candidate++ {
		if candidate.String() == string(text) {
			*d = candidate
			return nil
		}
		names = append(names, candidate.String())
	}
	return fmt.Errorf("dialect %q: want one of %s", text, strings.Join(names, ", "))
}

// KeepsSessions reports whether such an edge asks once a session of its own, rather than for each thing that a viewer
// asks it for.
func (d Dialect) KeepsSessions() bool { return d == Astra || d == Alta || d == Flussonic }
