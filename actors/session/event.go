package session

import (
	"time"

	"usher/backends"
)

// Event is a fact that the shell reports to a [State]. Its apply method handles it in every phase but closed.
type Event interface {
	apply(step) Action
}

// Events, in the order in which a session meets them.
type (
	// OpenRequested starts the session. With a ticket it starts a denied session again whose ticket the denial does not
	// concern.
	OpenRequested struct {
		Ticket Ticket
		// IsRepeated reports that it has started again for such a ticket before.
		IsRepeated bool
	}
	// LeaseAnswered is the store's answer to a lookup. Each lookup has exactly one.
	LeaseAnswered struct {
		Kind LookupKind
		LeaseResult
		// IsUnavailable reports that the store did not answer.
		IsUnavailable bool
		// Refused refuses the viewer whatever the record's decision is: a ban, or a user's limit. It is nil otherwise.
		Refused *backends.Decision
		// Overload names the bound that keeps a sibling from opening now; empty: none.
		Overload string
		// IsRootAllowed and IsRootDenied report that a sibling's root may play, or was denied. HasRootFacts reports that the
		// root's credentials are the sibling's from now on. Root holds the user of the root's decision.
		IsRootAllowed, IsRootDenied, HasRootFacts bool
		Root                                      backends.Decision
		// MayBeBanned reports that the store lost its data and this node does not yet know all bans again, so that a ticket
		// alone admits nobody.
		MayBeBanned bool
		// Ticket is the ticket that the viewer presented while the session opens; zero without one.
		Ticket Ticket
		// Denied is when the session was opened whose denial holds while this one opens. Zero: the denial concerns each ticket, or there
		// is none.
		Denied time.Time
		// Timer holds what a timer would report now.
		Timer TimerFired
		// Took is how long the look-up took.
		Took time.Duration
	}
	// BackendAnswered is the outcome of a check.
	BackendAnswered struct {
		// Number is the check's number.
		Number int
		// Decision is the answer. A pending one says that there is none, and its reason why.
		Decision backends.Decision
		// IsBackendDown reports that the backend is known to fail. IsFailure reports that a pending decision is due to the
		// backend, not to a bound of this node's.
		IsBackendDown, IsFailure bool
		// IsSaved reports that the store has what it must keep of the answer.
		IsSaved bool
	}
	// WaitExpired reports that a waiting viewer has waited long enough, or that the backend is known to be down.
	WaitExpired struct {
		// Fallback is what the outage policy decides. A pending one admits no viewer, and its reason says why.
		Fallback backends.Decision
		// IsFailure reports that the backend is to blame, not a bound of this node's.
		IsFailure bool
		// Ticket is the ticket that the viewer presented; zero without one.
		Ticket Ticket
		// MayBeBanned is LeaseAnswered's.
		MayBeBanned bool
	}
	// TimerFired is the session's own timer.
	TimerFired struct {
		LastSeen time.Time
		Breaker  backends.BreakerState
		// IsImpaired reports that a part of the backend is down.
		IsImpaired bool
		// Fallback is what the outage policy decides while the breaker is not closed; pending: it decides nothing.
		Fallback backends.Decision
	}
	// RecheckGranted gives the session a slot for its re-check.
	RecheckGranted struct{}
	// CredentialsArrived reports credentials for a session that was opened by its ticket alone.
	CredentialsArrived struct{}
	// DecisionOutdated reports that the store refused a write because another node's check is newer.
	DecisionOutdated struct{}
	// LostInStore reports that the store no longer has the session.
	LostInStore struct{}
	// MustReload reports that a revocation may have been missed.
	MustReload struct{}
	// Revoked ends the session if it was opened at Opened or before; zero: whenever it was opened.
	Revoked struct {
		Kind     RevocationKind
		Opened   time.Time
		Decision backends.Decision
	}
	// Forgotten reports that what refused the viewer is over: a ban or, if IsReplaced, the session itself, in whose place they have
	// opened it anew.
	Forgotten struct{ IsReplaced bool }
	// Restored is the first event after a panic. Decision is what the session had published.
	Restored struct{ Decision backends.Decision }
)
