package edge

import (
	"fmt"
	"strings"
)

// Dialect is the protocol of an edge's checks. The zero value is NoDialect, which no edge uses.
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

// String returns the dialect as the config spells it.
func (d Dialect) String() string {
	return [...]string{"", "astra", "alta", "flussonic", "nginx", "forward-auth", "envoy"}[d]
}

// MarshalText returns the dialect as the config spells it.
func (d Dialect) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText parses a dialect as the config spells it.
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

// KeepsSessions reports whether such an edge has its own sessions, and asks once per session instead of once per request.
func (d Dialect) KeepsSessions() bool { return d == Astra || d == Alta || d == Flussonic }
