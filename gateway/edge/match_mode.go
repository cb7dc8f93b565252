package edge

import "fmt"

// MatchMode is how requests of a viewer's that show no credentials, such as those for segments, are told to be his.
type MatchMode uint8

// The ways. MatchByDefault is the zero value: by address and agent, or not at all where the edge keeps sessions itself.
const (
	MatchByDefault MatchMode = iota
	// MatchByAddressAgent takes the same address and User-Agent, asking for the same channel, for the same viewer. It
	// needs nothing of the player, but viewers behind one address (CGNAT) with the same player share what one of them may.
	MatchByAddressAgent
	// MatchByCookie gives the viewer a ticket in a cookie, through the edge.
	MatchByCookie
	// MatchByPlaylistsOnly lets everything but playlists through.
	MatchByPlaylistsOnly
	// MatchByNone takes every request for itself.
	MatchByNone
	numMatchModes
)

// String is the way as the config spells it; empty for the default.
func (m MatchMode) String() string {
	return [...]string{"", "address+user_agent", "cookie", "playlists-only", "none"}[m]
}

// MarshalText spells the way as the config does.
func (m MatchMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what the config spells.
func (m *MatchMode) UnmarshalText(text []byte) error {
	for candidate := range numMatchModes {
		if candidate.String() == string(text) {
			*m = candidate
			return nil
		}
	}
	return fmt.Errorf("match_by %q: want address+user_agent, cookie, playlists-only or none", text)
}

// For is the way that holds at an edge of that dialect.
func (m MatchMode) OrDefault(d Dialect) MatchMode {
	switch {
	case m != MatchByDefault:
		return m
	case d.KeepsSessions():
		return MatchByNone
	default:
		return MatchByAddressAgent
	}
}
