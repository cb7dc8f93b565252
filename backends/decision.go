package backends

import "time"

// Verdict is what was decided. Its numbers travel in no wire format.
type Verdict uint8

// The verdicts. Undecided is the zero value: nobody could say, and the viewer is asked to come back (503), because a
// 4xx would end his playback for good.
const (
	Pending Verdict = iota
	Allowed
	Denied
)

// String is the verdict as logs, traces and the API show it.
func (v Verdict) String() string { return [...]string{"pending", "allowed", "denied"}[v] }

// Source is who decided. It survives every copy of the decision to another node.
type Source uint8

// The sources. FailOpen let in a viewer whom nobody had decided on; LastKnown holds on to a decision of before the
// outage; Ticket admitted a session that nobody remembered on the word of its ticket.
const (
	SourceNone Source = iota
	FromBackend
	FromLocal
	FromFailOpen
	FromCached
	FromTicket
	FromLimit
	FromBan
	FromOperator
)

// String is the source as logs, traces, metrics and the API show it: a closed set.
func (s Source) String() string {
	return [...]string{
		"none", "backend", "local", "fail-open", "cached", "ticket", "limit", "ban", "operator",
	}[s]
}

// IsAuthoritative reports whether somebody who knows the viewer stands behind the decision. The others are stopgaps: they are
// asked about again as soon as somebody answers.
func (s Source) IsAuthoritative() bool {
	return s != SourceNone && s != FromFailOpen && s != FromCached && s != FromTicket
}

// Decision is the answer about one viewer. Decisions are values; once published they are not changed.
type Decision struct {
	Verdict Verdict
	Source  Source
	// Reason says in a few words why, for logs, traces and the API: never a token.
	Reason string

	// UserID is the middleware's key of the user (X-UserId), opaque. User is the name to show (X-Session-Name).
	// Both may be empty.
	UserID string
	User   string

	// ValidFor is how long the answer holds (X-AuthDuration). Zero: the middleware did not say.
	ValidFor time.Duration

	// MaxSessions bounds the user's concurrent sessions (X-Max-Sessions); zero is no bound. Unique asks for one
	// session a user (X-Unique).
	MaxSessions int
	Unique      bool

	// Redirect is where a denied viewer is sent instead; empty: he is refused.
	Redirect string
}
