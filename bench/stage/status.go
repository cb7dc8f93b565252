package stage

import "time"

// Status is the body of status.json for the page of [Player]. Slices may be nil. It must not hold secrets.
type Status struct {
	// Source is the path and query of the playlist that the page plays by default.
	Source     string           `json:"src"`
	Middleware MiddlewareStatus `json:"middleware"`
	// Breaker is "closed", "open" or "half-open".
	Breaker  string          `json:"breaker"`
	Sessions []SessionStatus `json:"sessions"`
	// Events are in any order; the page sorts them.
	Events []Event `json:"events"`
}

// MiddlewareStatus is the state of the demo's middleware.
type MiddlewareStatus struct {
	// Mode is how it behaves.
	Mode string `json:"mode"`
	// Modes are the modes that a [Switch] may name.
	Modes []string `json:"modes"`
	// Calls counts the checks that it received.
	Calls int `json:"calls"`
}

// SessionStatus is one session on the page. Verdict and Source are the texts of backends.Verdict and backends.Source.
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

// Event is one line in the list of events.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Switch is the body of POST middleware. Mode is one of [MiddlewareStatus].Modes.
type Switch struct {
	Mode string `json:"mode"`
}
