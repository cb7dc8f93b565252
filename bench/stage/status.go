package stage

import "time"

// Status is the body of status.json for the page of [Player]. Slices may be nil. It must not hold secrets.
type Status struct {
	// Now is the clock by which the page tells ages; the browser's may differ.
	Now time.Time `json:"now"`
	// Source is the path and query of the playlist that the page plays by default.
	Source string `json:"src"`
	// Tokens are those of the viewers that the page offers to watch as.
	Tokens     []string         `json:"tokens"`
	Middleware MiddlewareStatus `json:"middleware"`
	// OnFailure is the outage policy: "allow", "keep" or "deny".
	OnFailure string `json:"on_failure"`
	// Breaker is "closed", "open" or "half-open".
	Breaker string `json:"breaker"`
	// Own is the id of the session that the requested source belongs to, for the viewer who requests the status. It is empty
	// if there is none.
	Own      string          `json:"own"`
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
	ID string `json:"id"`
	// Name tells the session from all others, in the list and in the events.
	Name string `json:"name"`
	// Place is the folder of its route and channel.
	Place   string `json:"place"`
	Address string `json:"address"`
	Verdict string `json:"verdict"`
	Source  string `json:"source"`
	Reason  string `json:"reason"`
	// RefusedUntil is when a kick or a ban ends; zero: there is none.
	RefusedUntil time.Time `json:"refused_until,omitzero"`
	Since        time.Time `json:"since"`
	LastSeen     time.Time `json:"last_seen"`
	Requests     int64     `json:"requests"`
	Bytes        int64     `json:"bytes"`
}

// Event is one line in the list of events.
type Event struct {
	// At is when it happened last.
	At   time.Time `json:"at"`
	Text string    `json:"text"`
	// Count is how often it happened without another event in between.
	Count int `json:"count"`
}

// Switch is the body of POST middleware. Mode is one of [MiddlewareStatus].Modes.
type Switch struct {
	Mode string `json:"mode"`
}

// Kick is the body of POST kick. Session is the id of a session.
type Kick struct {
	Session string `json:"session"`
}
