package authz

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

// Recognition is how requests of a viewer's that show no credentials, such as those for segments, are told to be his.
type Recognition uint8

// The ways. RecogniseDefault is the zero value: by address and agent, or not at all where the edge keeps sessions itself.
const (
	RecogniseDefault Recognition = iota
	// RecogniseAddressAgent takes the same address and User-Agent, asking for the same channel, for the same viewer. It
	// needs nothing of the player, but viewers behind one address (CGNAT) with the same player share what one of them may.
	RecogniseAddressAgent
	// RecogniseCookie gives the viewer a ticket in a cookie, through the edge.
	RecogniseCookie
	// RecognisePlaylistsOnly lets everything but playlists through.
	RecognisePlaylistsOnly
	// RecogniseNobody takes every request for itself.
	RecogniseNobody
	numRecognitions
)

// String is the way as the config spells it; empty for the default.
func (r Recognition) String() string {
	return [...]string{"", "address+user_agent", "cookie", "playlists-only", "none"}[r]
}

// MarshalText spells the way as the config does.
func (r Recognition) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what the config spells.
func (r *Recognition) UnmarshalText(text []byte) error {
	for candidate := range numRecognitions {
		if candidate.String() == string(text) {
			*r = candidate
			return nil
		}
	}
	return fmt.Errorf("match_by %q: want address+user_agent, cookie, playlists-only or none", text)
}

// For is the way that holds at an edge of that dialect.
func (r Recognition) For(d Dialect) Recognition {
	switch {
	case r != RecogniseDefault:
		return r
	case d.KeepsSessions():
		return RecogniseNobody
	default:
		return RecogniseAddressAgent
	}
}
