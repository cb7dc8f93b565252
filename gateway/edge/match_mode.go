package edge

import "fmt"

// MatchMode is how requests without credentials, such as those for segments, are matched to a viewer's session.
type MatchMode uint8

// The modes. MatchByDefault is the zero value: by address and User-Agent, or none at edges that keep sessions themselves.
const (
	MatchByDefault MatchMode = iota
	// MatchByAddressAgent matches the same address, User-Agent and channel. It needs nothing of the player, but viewers
	// with the same player behind one address (CGNAT) share what one of them may watch.
	MatchByAddressAgent
	// MatchByCookie sends the viewer a ticket in a cookie through the edge.
	MatchByCookie
	// MatchByPlaylistsOnly allows every request that is not for a playlist.
	MatchByPlaylistsOnly
	// MatchByNone decides on each request by itself.
	MatchByNone
	numMatchModes
)

// String returns the mode as the config spells it; empty for the default.
func (m MatchMode) String() string {
	return [...]string{"", "address+user_agent", "cookie", "playlists-only", "none"}[m]
}

// MarshalText returns the mode as the config spells it.
func (m MatchMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses a mode as the config spells it.
func (m *MatchMode) UnmarshalText(text []byte) error {
	for candidate := range numMatchModes {
		if candidate.String() == string(text) {
			*m = candidate
			return nil
		}
	}
	return fmt.Errorf("match_by %q: want address+user_agent, cookie, playlists-only or none", text)
}

// OrDefault returns the mode, or for MatchByDefault the default of edges of that dialect.
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
