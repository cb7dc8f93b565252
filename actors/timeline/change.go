package timeline

import (
	"fmt"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Change is what an event did to a session.
type Change struct {
	Event session.Event
	// WasOpening reports that the session had no decision before. Before and After are its decisions, and RevisedBefore and
	// RevisedAfter their revisions. IsPublished reports that After was shown to viewers.
	WasOpening                  bool
	Before, After               *backends.Decision
	RevisedBefore, RevisedAfter uint64
	IsPublished                 bool
	// Failure is why the outage policy decided in the backend's place.
	Failure backends.FailureKind
	// Waited is how long the viewer has waited for the first decision.
	Waited time.Duration
}

// Entry returns the entry of an event that decided on the session, other than the answer to a check.
func (c *Change) Entry(backend string) (e Entry, isEntry bool) {
	if !c.IsPublished {
		return Entry{}, false
	}
	isEntry = true
	switch event := c.Event.(type) {
	case *session.LeaseAnswered:
		e, isEntry = c.ofLookup(event, backend)
	case session.WaitExpired:
		e.Trigger, e.Duration = Opening, c.Waited
		if event.IsFailure {
			e.Backend, e.Error = backend, c.Failure.String()
		}
	case session.TimerFired:
		e = c.ofExpiry(&event, backend)
	case session.RecheckGranted: // the token is spent
		e.Trigger = Expiry
	case session.Revoked:
		e.Trigger = revokedBy(event.Kind, c.After.Source)
		isEntry = c.WasOpening || !isSame(c.Before, c.After) // a kick comes with its ban
	default:
		return Entry{}, false
	}
	return e.with(c.After), isEntry
}

// Answered returns the entry of an answer to a check. d is the decision that follows from it, and failure why there is none
// of the backend; nil: there is one.
func Answered(t Trigger, backend string, took time.Duration, d *backends.Decision, failure *backends.Failure) Entry {
	e := Entry{Trigger: t, Backend: backend, Duration: took}
	if failure != nil {
		e.Error = strings.TrimPrefix(failure.Error(), fmt.Sprintf("check backend %q: ", backend))
	}
	return e.with(d)
}

// ofLookup returns the entry of a look-up that did more than to find the session as it is.
func (c *Change) ofLookup(answered *session.LeaseAnswered, backend string) (e Entry, isEntry bool) {
	d := c.After
	switch isRefused := answered.Refused != nil && isSame(d, answered.Refused); {
	case isRefused:
		e.Trigger = refusedBy(d.Source)
	case c.WasOpening:
		e.Trigger = takenOr(Opening, d, answered)
	case isSame(c.Before, d) && c.RevisedBefore == c.RevisedAfter:
		return Entry{}, false // another ticket
	case isFallback(d, &answered.Timer):
		e = c.ofExpiry(&answered.Timer, backend)
	default: // or the token is spent
		e.Trigger = takenOr(Expiry, d, answered)
	}
	e.Duration = answered.Took
	if answered.IsUnavailable && e.Error == "" {
		e.Error = backends.ErrStoreUnavailable.Error()
	}
	return e, true
}

// takenOr returns Lookup for a decision that the store had, and otherwise the given trigger.
func takenOr(otherwise Trigger, d *backends.Decision, answered *session.LeaseAnswered) Trigger {
	if answered.Found && (isSame(d, &answered.Record.Decision) || d.Source == backends.FromLimit) {
		return Lookup
	}
	return otherwise
}

// ofExpiry returns the entry of a decision that has expired. The outage policy decides, or the token is spent.
func (c *Change) ofExpiry(fired *session.TimerFired, backend string) Entry {
	if !isFallback(c.After, fired) {
		return Entry{Trigger: Expiry}
	}
	return Entry{Trigger: Expiry, Backend: backend, Error: c.Failure.String()}
}

// isFallback reports whether the outage policy took the decision when the timer fired.
func isFallback(d *backends.Decision, fired *session.TimerFired) bool {
	return fired.Fallback.Verdict != backends.Pending && isSame(d, &fired.Fallback)
}

// with returns the entry with what the decision says.
func (e Entry) with(d *backends.Decision) Entry {
	e.Verdict, e.Source, e.Reason = d.Verdict, d.Source, d.Reason
	return e
}

// isSame reports whether two decisions are alike for the readers of a timeline.
func isSame(a, b *backends.Decision) bool {
	return a.Verdict == b.Verdict && a.Source == b.Source && a.Reason == b.Reason
}

// refusedBy returns the trigger of a refusal that a look-up brought.
func refusedBy(s backends.Source) Trigger {
	switch s {
	case backends.FromBan:
		return Ban
	case backends.FromOperator:
		return Kick
	case backends.FromLimit:
		return Limit
	default:
		return Opening
	}
}

// revokedBy returns the trigger of a revocation. The ban of a kick is a kick.
func revokedBy(k session.RevocationKind, s backends.Source) Trigger {
	switch k {
	case session.RevokedKicked:
		return Kick
	case session.RevokedBanned:
		return refusedBy(s)
	case session.RevokedEvicted:
		return Limit
	case session.RevokedSuperseded:
		return Superseded
	default:
		return Revocation
	}
}
