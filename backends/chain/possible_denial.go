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

// A session's first one is remembered for a while after its last one: longer than a player waits before it tries again and, if the session
// runs, than sessions.recheck.min, after which its timer does, unless that is above an hour.
const (
	possibleDenialMemory = time.Minute
	recheckDenialMemory  = time.Hour
)

// maxPossibleDenials bounds the memory to some 15 MB: after an outage as many viewers whom it let in may be unknown to their portal. Beyond
// it each session's counts as the first; but one of a session that runs takes the place of one of forgetAmong others that is forgotten
// within a minute, so that strangers, and those who were denied since, do not keep its viewer watching.
const maxPossibleDenials, forgetAmong = 1 << 16, 8

// possibleDenial reads a 404 to a viewer whom nobody has allowed yet, and a 401 that may refuse Usher itself. It is a failure, since a
// wrong address or password is answered so, unless a check of another session that was sent later is answered: then the settings are
// right, and it is a denial. Only a yes tells so of the password: a server may deny before it asks for one. To an allowed viewer it is a
// failure always: a portal that is being deployed must not end its audience's sessions, nor one of two portals behind one address that
// has another password. One let in by an outage was allowed by nobody.
//
// The viewer's next try finds the other session's answer, so no check waits for one. Safe for concurrent use.
type possibleDenial struct {
	next     backends.Backend
	deadline time.Duration

	mu                sync.Mutex
	openings          map[openingKey]*firstPossibleDenial
	sweptAt           time.Time
	answered, allowed latestChecks // those that had an answer, and those that had a yes
}

// openingKey is who has a session opened.
type openingKey struct {
	session backends.SessionID
	address netip.Prefix
}

func keyOf(r *backends.Request) openingKey {
	return openingKey{r.Session, backends.SubscriberPrefix(r.Address)}
}

// firstPossibleDenial is what is known of a session that may be denied.
type firstPossibleDenial struct {
	// sentAt is when the first check was sent.
	sentAt time.Time
	// forgetAt is when it is forgotten, unless there is another one.
	forgetAt time.Time
}

// sentCheck is when a check was sent.
type sentCheck struct {
	by openingKey
	at time.Time
}

// latestChecks are the latest checks of two sessions, the later one first.
type latestChecks [2]sentCheck

// add adds a check that was sent at that time.
func (l *latestChecks) add(by openingKey, at time.Time) {
	switch {
	case l[0].by == by || l[0].at.IsZero():
		if at.After(l[0].at) {
			l[0] = sentCheck{by, at}
		}
	case at.After(l[0].at):
		l[1], l[0] = l[0], sentCheck{by, at}
	case at.After(l[1].at):
		l[1] = sentCheck{by, at}
	}
}

// hasOther reports whether one of another session was sent after that time.
func (l *latestChecks) hasOther(than openingKey, after time.Time) bool {
	for _, c := range l {
		if c.by != than && c.at.After(after) {
			return true
		}
	}
	return false
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
			n.recordAnswer(r, d.Verdict, sentAt)
		}
		return d, nil
	}
	f := backends.AsFailure(err)
	if f == nil || !f.MayBeDenial || wasAllowed(r) || !n.isOwn(r, f.Status, sentAt, time.Now()) {
		return d, err
	}
	reason := fmt.Sprintf("backend answered %d while other viewers get answers", f.Status)
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason}, nil
}

// wasAllowed reports whether the viewer watches, and not by an outage alone.
func wasAllowed(r *backends.Request) bool {
	return r.Current.Verdict == backends.Allowed && r.Current.Source != backends.FromFailOpen
}

// refusesUsher reports whether a status, where it may be a denial, may refuse Usher's own credentials instead.
func refusesUsher(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired
}

// recordAnswer records that a check sent at that time was answered.
func (n *possibleDenial) recordAnswer(r *backends.Request, v backends.Verdict, sentAt time.Time) {
	by := keyOf(r)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.openings, by)
	n.answered.add(by, sentAt)
	if v == backends.Allowed {
		n.allowed.add(by, sentAt)
	}
}

// isOwn records a status of a check that was sent at sentAt, and reports whether it concerns its session alone.
func (n *possibleDenial) isOwn(r *backends.Request, status int, sentAt, now time.Time) bool {
	by := keyOf(r)
	n.mu.Lock()
	defer n.mu.Unlock()
	opening := n.openings[by]
	switch {
	case opening == nil || !now.Before(opening.forgetAt):
		opening = &firstPossibleDenial{sentAt: sentAt}
		n.remember(by, opening, r.IsRecheck, now)
	case sentAt.Before(opening.sentAt):
		opening.sentAt = sentAt
	}
	proof := &n.answered
	if refusesUsher(status) {
		proof = &n.allowed
	}
	isDenial := (r.IsRecheck || now.Sub(sentAt) < n.deadline) && proof.hasOther(by, opening.sentAt)
	opening.forgetAt = now.Add(possibleDenialMemory)
	if r.IsRecheck && !isDenial {
		opening.forgetAt = now.Add(recheckDenialMemory)
	}
	return isDenial
}

// remember keeps a session's first 404 if there is room.
func (n *possibleDenial) remember(by openingKey, opening *firstPossibleDenial, runs bool, now time.Time) {
	if len(n.openings) >= maxPossibleDenials && now.Sub(n.sweptAt) >= sweepInterval {
		n.sweptAt = now
		for key, other := range n.openings {
			if !now.Before(other.forgetAt) {
				delete(n.openings, key)
			}
		}
	}
	if len(n.openings) < maxPossibleDenials || runs && n.forgetOne(now) {
		n.openings[by] = opening
	}
}

// forgetOne forgets one that would be forgotten soon, and reports whether it found one.
func (n *possibleDenial) forgetOne(now time.Time) bool {
	looked := 0
	for key, other := range n.openings { // in an order that nobody can foresee
		if !other.forgetAt.After(now.Add(possibleDenialMemory)) {
			delete(n.openings, key)
			return true
		}
		if looked++; looked == forgetAmong {
			break
		}
	}
	return false
}
