package backends

import "time"

// Verdict is whether a viewer may watch. Its numbers appear in no wire format.
type Verdict uint8

// The verdicts.
const (
	// Pending is the zero value: there is no decision. The viewer is asked to retry (503), because players stop for good
	// at a 4xx.
	Pending Verdict = iota
	Allowed
	Denied
)

// String returns the verdict as logs, traces and the API show it.
func (v Verdict) String() string { return [...]string{"pending", "allowed", "denied"}[v] }

// Source is what decided. It survives every copy of the decision to another node.
type Source uint8

// The sources.
const (
	// SourceNone is the zero value, beside Pending.
	SourceNone Source = iota
	// FromBackend is an answer of a backend.
	FromBackend
	// FromLocal is a decision taken in this process, for example by a token's signature.
	FromLocal
	// FromFailOpen is the outage policy's decision.
	FromFailOpen
	// FromCached is a decision of before the outage, kept by the outage policy.
	FromCached
	// FromTicket admits a session, lost in the store, by its ticket alone.
	FromTicket
	FromLimit
	FromBan
	FromOperator
)

// String returns the source as logs, traces, metrics and the API show it. The set is closed.
func (s Source) String() string {
	return [...]string{
		"none", "backend", "local", "fail-open", "cached", "ticket", "limit", "ban", "operator",
	}[s]
}

// IsAuthoritative reports whether the decision is verified. A session with another one is re-checked as soon as the
// backend answers again.
func (s Source) IsAuthoritative() bool {
	return s != SourceNone && s != FromFailOpen && s != FromCached && s != FromTicket
}

// ShortestValidity is the validity of an answer that is to hold as briefly as the sessions' policy allows.
const ShortestValidity = time.Nanosecond

// Decision is the answer about one viewer. A published decision is not changed.
//
// A live session holds two, so the fields are in an order that wastes no memory.
type Decision struct {
	Verdict Verdict
	Source  Source
	// Unique allows the user one session (X-Unique).
	Unique bool
	// MaxSessions bounds the user's concurrent sessions (X-Max-Sessions). Zero: no bound.
	MaxSessions int32
	// Reason says why in a few words, for logs, traces and the API. It never holds a token.
	Reason string

	// UserID is the middleware's key of the user (X-UserId), opaque. It may be empty.
	UserID string
	// User is the user's name to show (X-Session-Name). It may be empty.
	User string

	// ValidFor is how long the answer holds (X-AuthDuration). Zero: the middleware did not say.
	ValidFor time.Duration

	// Redirect is where a denied viewer is redirected. Empty: they are refused.
	Redirect string
	// Challenge asks a denied viewer for credentials: values of WWW-Authenticate, one a line. Many players send credentials
	// only when asked. Empty: none are asked for.
	Challenge string
}

// ReasonNewAddress is why a ticket is refused at an address that is not its own. Its viewer is told.
const ReasonNewAddress = "the ticket was issued for another address, and on_new_address of this route is refuse; " +
	"open the playlist again"

// ReasonSuperseded is why a session is denied that the viewer left for another channel. No limit was exceeded.
const ReasonSuperseded = "the viewer is on another channel"

// LocalDecision returns a verdict of this process.
func LocalDecision(v Verdict, reason string) Decision {
	return Decision{Verdict: v, Source: FromLocal, Reason: reason}
}
