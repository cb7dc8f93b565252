package soak

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/bench/record"
	"usher/bench/result"
)

// promise is what a run checks, as the report says it.
type promise string

// The promises.
const (
	viewersServed promise = "viewers refused or turned away by auth == 0"
	newServed     promise = "new viewers refused, or without an answer of the node == 0"
	noWait        promise = "new viewers who waited longer than answer_deadline == 0"
	forgedRefused promise = "forged tickets let in == 0"
	bansHeld      promise = "banned viewers let in by a node that has heard of the ban, or reaches redis for 1 s == 0"
	nodesLive     promise = "servers that ended by themselves == 0"
)

func promises() []promise {
	return []promise{viewersServed, newServed, noWait, forgedRefused, bansHeld, nodesLive}
}

// ledger keeps what was checked and what was found. Safe for concurrent use.
type ledger struct {
	started  time.Time
	recorder *record.Recorder

	mu      sync.Mutex
	checked map[promise]int
	broken  map[promise][]string
	// unsure counts the new viewers in a row whom a node turned away, by node and backend.
	unsure map[string]int
	// seen are how many answers viewers got of each kind, by the second.
	seen []map[string]uint64
}

func newLedger(now time.Time) *ledger {
	return &ledger{started: now, recorder: record.New(now), checked: map[promise]int{}, broken: map[promise][]string{}, unsure: map[string]int{}}
}

// check counts a check of a promise, which is broken if fault is not empty.
func (l *ledger) check(p promise, fault string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checked[p]++
	if fault != "" {
		l.broken[p] = append(l.broken[p], fmt.Sprintf("%.1f s: %s", time.Since(l.started).Seconds(), fault))
	}
}

// checkRefused counts what a node answered to a viewer whom it must refuse. A status of an origin's, or of a node that cannot serve
// now, says neither that the viewer was refused nor that they were let in.
func (l *ledger) checkRefused(p promise, status int, describe func() string) {
	switch {
	case status < http.StatusBadRequest:
		l.check(p, describe())
	case status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden:
		l.check(p, "")
	}
}

// maxUnsure is how many new viewers in a row a node may turn away because their check failed in a way that their own request
// could have caused: as many as open its breaker (breaker.consecutive_failures), and as many that were sent meanwhile.
const maxUnsure = 2 * 5

// answeredNew notes what a new viewer of a backend got from a node, and reports whether it was one of too many who were turned away.
func (l *ledger) answeredNew(node, route string, what seen, text string) (isTooMany bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := node + " " + route
	switch {
	case what == served:
		l.unsure[key] = 0
		return false
	case what == unsure && strings.Contains(text, "(no answer: "):
		l.unsure[key]++
		return l.unsure[key] > maxUnsure
	}
	return what.isByAuth()
}

// servedNew notes the same of a viewer about whom an edge asked, and reports whether they were served, or turned away within the bound. No
// origin is in the way, so that nothing else is good.
func (l *ledger) servedNew(node, route string, what seen, text string) bool {
	isTooMany := l.answeredNew(node, route, what, text)
	return !isTooMany && (what == served || what == unsure)
}

// saw counts what a viewer got.
func (l *ledger) saw(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for second := int(time.Since(l.started).Seconds()); len(l.seen) <= second; {
		l.seen = append(l.seen, map[string]uint64{})
	}
	l.seen[len(l.seen)-1][what]++
}

// seenIn returns what viewers got in a time, in seconds.
func (l *ledger) seenIn(from, to float64) map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := map[string]uint64{}
	for second := int(from); second <= int(to) && second < len(l.seen); second++ {
		for what, n := range l.seen[second] {
			sum[what] += n
		}
	}
	return sum
}

// maxTold is how many findings of one promise a report tells.
const maxTold = 10

// finish returns what was measured, with a verdict on each promise.
func (l *ledger) finish(now time.Time) result.Measurement {
	m := l.recorder.Finish(now)
	for i := range m.Faults {
		m.Faults[i].Seen = l.seenIn(m.Faults[i].From, m.Faults[i].To)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range promises() {
		broken := l.broken[p]
		m.Assertions = append(m.Assertions, result.Assertion{
			Text: string(p), Got: fmt.Sprintf("%d of %d", len(broken), l.checked[p]), Kept: len(broken) == 0 && l.checked[p] > 0,
		})
		told := slices.Clone(broken[:min(len(broken), maxTold)])
		if len(told) > 0 {
			m.Notes = append(m.Notes, fmt.Sprintf("%s, but: %s", p, strings.Join(told, "; ")))
		}
	}
	return m
}
