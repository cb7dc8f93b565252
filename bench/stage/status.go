package stage

import "time"

// Status is what the page of [Player] reads from status.json. Slices may be nil; nothing in it may be a secret.
type Status struct {
	// Source is the playlist that the page plays when its own address names none, as path and query.
	Source     string           `json:"src"`
	Middleware MiddlewareStatus `json:"middleware"`
	// Breaker is "closed", "open" or "half-open".
	Breaker  string          `json:"breaker"`
	Sessions []SessionStatus `json:"sessions"`
	// Events are the newest first, or the oldest: the page sorts them.
	Events []Event `json:"events"`
}

// MiddlewareStatus says how the demo's middleware behaves, how it may be told to, and how often it has been asked.
type MiddlewareStatus struct {
	Mode  string   `json:"mode"`
	Modes []string `json:"modes"`
	Calls int      `json:"calls"`
}

// SessionStatus is one viewer's session as the page lists it. Verdict and Source are the words of backends.Verdict
// and backends.Source.
type SessionStatus struct {
	ID       string    `json:"id"`
	Channel  string    `json:"channel"`
	User     string    `json:"user"`
	Verdict  string    `json:"verdict"`
	Source   string    `json:"source"`
	Since    time.Time `json:"since"`
	Requests int64     `json:"requests"`
	Bytes    int64     `json:"bytes"`
}

// Event is one line of what happened.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Switch is what the page posts to middleware. Mode is one of the modes that [MiddlewareStatus] lists.
type Switch struct {
	Mode string `json:"mode"`
}
