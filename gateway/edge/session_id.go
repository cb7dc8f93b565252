package edge

import (
	"fmt"

	"usher/backends"
)

// SessionIDMode is what the edge's own id of a session is for.
type SessionIDMode uint8

// The modes.
const (
	// SessionIDOfEdge is the zero value: the id distinguishes sessions, and a backend of the edge's contract gets it
	// unchanged.
	SessionIDOfEdge SessionIDMode = iota
	// SessionIDDerived distinguishes sessions by the id, too, but a backend gets one that is unique over edges.
	SessionIDDerived
	// SessionIDIgnored has the credentials alone distinguish sessions. A backend gets an id of ours.
	SessionIDIgnored
	numSessionIDModes
)

// String returns the mode as the config spells it.
func (m SessionIDMode) String() string { return [...]string{"edge", "derived", "ignore"}[m] }

// MarshalText returns the mode as the config spells it.
func (m SessionIDMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses a mode as the config spells it.
func (m *SessionIDMode) UnmarshalText(text []byte) error {
	for candidate := range numSessionIDModes {
		if candidate.String() == string(text) {
			*m = candidate
			return nil
		}
	}
	return fmt.Errorf("session_id %q: want edge, derived or ignore", text)
}

// Report returns what an edge of that dialect reported, for backends; nil if it keeps no sessions, and so passes the viewer's
// own request on.
func (q *CheckRequest) Report(d Dialect, m SessionIDMode) *backends.EdgeReport {
	if !d.KeepsSessions() {
		return nil
	}
	r := &backends.EdgeReport{HasSession: true, HasChannel: q.Channel != "", HasHost: q.Host != ""}
	if d == Flussonic {
		r.Protocol, r.IsArchive = q.Protocol, q.IsArchive
		if m == SessionIDOfEdge {
			r.FlussonicSession = q.EdgeSession
		}
		return r
	}
	r.HasPath, r.HasHost, r.Origin = q.Path != "", q.HasHost, q.Origin
	if m == SessionIDOfEdge {
		r.AstraSession, r.HasSession = q.EdgeSession, q.EdgeSession != ""
	}
	return r
}
