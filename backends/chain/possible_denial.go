package chain

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"usher/backends"
)

// possibleDenialMemory is how long a session's first one is remembered after its last one. It is longer than a player waits
// before it tries again.
const possibleDenialMemory = time.Minute

// possibleDenial reads a 404 to an opening check, and a 401 that may refuse Usher itself. It is a failure, since a wrong address or
// password is answered so, unless a check of another session that was sent later is answered: then the settings are right, and it is a
// denial. A 404 to a re-check is a failure always: a portal that is being deployed must not end its audience's sessions.
//
// The viewer's next try finds the other session's answer, so no check waits for one. Safe for concurrent use.
type possibleDenial struct {
	next     backends.Backend
	deadline time.Duration

	mu       sync.Mutex
	openings map[openingKey]*firstPossibleDenial
	sweptAt  time.Time
	// answered holds when the latest answered checks of two sessions were sent, the later one first.
	answered [2]sentCheck
}

// openingKey is who has a session opened.
type openingKey struct {
	session backends.SessionID
	address netip.Prefix
}

func keyOf(r *backends.Request) openingKey {
	return openingKey{r.Session, backends.SubscriberPrefix(r.Address)}
}

// firstPossibleDenial is what is known of a session whose opening check may be denied.
type firstPossibleDenial struct {
	// sentAt is when the first check was sent.
	sentAt time.Time
	// lastSeen is when the last one was answered.
	lastSeen time.Time
}

// sentCheck is when an answered check was sent.
type sentCheck struct {
	by openingKey
	at time.Time
}

// newPossibleDenial returns the rule around next. A viewer who has waited for deadline may have been admitted already, so that
// theirs stays a failure: a denial would revoke their ticket.
func newPossibleDenial(deadline time.Duration, next backends.Backend) *possibleDenial {
	return &possibleDenial{next: next, deadline: deadline, openings: make(map[openingKey]*firstPossibleDenial)}
}

// Check asks the backend, and denies instead of a status that concerns the viewer alone.
func (n *possibleDenial) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	sentAt := time.Now()
	d, err := n.next.Check(ctx, r)
	if err == nil {
		if d.Source == backends.FromBackend {
			n.recordAnswer(keyOf(r), sentAt)
		}
		return d, nil
	}
	f := backends.AsFailure(err)
	if f == nil || !f.MayBeDenial || !r.IsUnknown() && !refusesUsher(f.Status) || !n.isOwn(keyOf(r), sentAt, time.Now()) {
		return d, err
	}
	reason := fmt.Sprintf("backend answered %d while other viewers get answers", f.Status)
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason}, nil
}

// refusesUsher reports whether a status, where it may be a denial, may refuse Usher's own credentials instead.
func refusesUsher(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired
}

// recordAnswer records that a check sent at that time was answered.
func (n *possibleDenial) recordAnswer(by openingKey, sentAt time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.openings, by)
	switch {
	case n.answered[0].by == by || n.answered[0].at.IsZero():
		if sentAt.After(n.answered[0].at) {
			n.answered[0] = sentCheck{by, sentAt}
		}
	case sentAt.After(n.answered[0].at):
		n.answered[1], n.answered[0] = n.answered[0], sentCheck{by, sentAt}
	case sentAt.After(n.answered[1].at):
		n.answered[1] = sentCheck{by, sentAt}
	}
}

// isOwn records a 404 of a check that was sent at sentAt, and reports whether it concerns its session alone.
func (n *possibleDenial) isOwn(by openingKey, sentAt, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	opening := n.openings[by]
	switch {
	case opening == nil || now.Sub(opening.lastSeen) >= possibleDenialMemory:
		opening = &firstPossibleDenial{sentAt: sentAt}
		n.remember(by, opening, now)
	case sentAt.Before(opening.sentAt):
		opening.sentAt = sentAt
	}
	opening.lastSeen = now
	if now.Sub(sentAt) >= n.deadline {
		return false
	}
	for _, other := range n.answered {
		if other.by != by && other.at.After(opening.sentAt) {
			return true
		}
	}
	return false
}

// remember keeps a session's first 404 if there is room.
func (n *possibleDenial) remember(by openingKey, opening *firstPossibleDenial, now time.Time) {
	if len(n.openings) >= maxRemembered && now.Sub(n.sweptAt) >= sweepInterval {
		n.sweptAt = now
		for key, other := range n.openings {
			if now.Sub(other.lastSeen) >= possibleDenialMemory {
				delete(n.openings, key)
			}
		}
	}
	if len(n.openings) < maxRemembered {
		n.openings[by] = opening
	}
}
