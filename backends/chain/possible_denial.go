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

// fewRefused is how many re-checks must be allowed, after a running session's first 401, for each session that gets one: then it is a denial.
const fewRefused = 10

// possibleDenial reads a 404 to an opening check, and a 401 that may refuse Usher itself. It is a failure, since a wrong address or
// password is answered so, unless a check of another session that was sent later is answered: then the settings are right, and it is a
// denial. Only a yes tells so of the password: a server may deny before it asks for one. A portal that is being deployed must not end its
// audience's sessions: a 404 to a re-check is a failure always, and a 401 is one unless few sessions get one. Of two portals behind one
// address, one may have another password.
//
// The viewer's next try finds the other session's answer, so no check waits for one. Safe for concurrent use.
type possibleDenial struct {
	next     backends.Backend
	deadline time.Duration

	mu                sync.Mutex
	openings          map[openingKey]*firstPossibleDenial
	sweptAt           time.Time
	answered, allowed latestChecks // those that had an answer, and those that had a yes
	rechecks          recheckCounts
}

// recheckCounts counts what re-checks have brought: the allowed ones, and the 401s. A refused session is checked far more often than an
// allowed one, so that of its 401s only one in each refusedInterval counts.
type recheckCounts struct{ allowed, refused int }

// refusedInterval is how often a 401 of the same session counts.
const refusedInterval = time.Minute

// openingKey is who has a session opened.
type openingKey struct {
	session backends.SessionID
	address netip.Prefix
}

func keyOf(r *backends.Request) openingKey {
	return openingKey{r.Session, backends.SubscriberPrefix(r.Address)}
}

// firstPossibleDenial is what is known of a session whose check may be denied.
type firstPossibleDenial struct {
	// sentAt is when the first check was sent.
	sentAt time.Time
	// lastSeen is when the last one was answered.
	lastSeen time.Time
	// before are the counts of when the first check failed. The session's own 401s since are added, so that they do not speak against it. The
	// last of them was counted at countedAt.
	before    recheckCounts
	countedAt time.Time
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
	if f == nil || !f.MayBeDenial || isRunning(r) && !refusesUsher(f.Status) || !n.isOwn(r, f.Status, sentAt, time.Now()) {
		return d, err
	}
	reason := fmt.Sprintf("backend answered %d while other viewers get answers", f.Status)
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason}, nil
}

// isRunning reports whether the viewer watches.
func isRunning(r *backends.Request) bool { return r.Current.Verdict == backends.Allowed }

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
	if v != backends.Allowed {
		return
	}
	n.allowed.add(by, sentAt)
	if isRunning(r) {
		n.rechecks.allowed++
	}
}

// isOwn records a status of a check that was sent at sentAt, and reports whether it concerns its session alone.
func (n *possibleDenial) isOwn(r *backends.Request, status int, sentAt, now time.Time) bool {
	by := keyOf(r)
	n.mu.Lock()
	defer n.mu.Unlock()
	opening := n.openings[by]
	switch {
	case opening == nil || now.Sub(opening.lastSeen) >= possibleDenialMemory:
		opening = &firstPossibleDenial{sentAt: sentAt, before: n.rechecks}
		n.remember(by, opening, now)
	case sentAt.Before(opening.sentAt):
		opening.sentAt = sentAt
	}
	opening.lastSeen = now
	proof := &n.answered
	if refusesUsher(status) {
		proof = &n.allowed
	}
	return n.isOneOfFew(r, opening, now) && now.Sub(sentAt) < n.deadline && proof.hasOther(by, opening.sentAt)
}

// isOneOfFew counts a running session's 401, and reports whether few others got one since its first. n.mu is held.
func (n *possibleDenial) isOneOfFew(r *backends.Request, opening *firstPossibleDenial, now time.Time) bool {
	if !isRunning(r) {
		return true
	}
	if now.Sub(opening.countedAt) >= refusedInterval {
		n.rechecks.refused++
		opening.before.refused++
		opening.countedAt = now
	}
	return n.rechecks.allowed-opening.before.allowed >= fewRefused*(1+n.rechecks.refused-opening.before.refused)
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
