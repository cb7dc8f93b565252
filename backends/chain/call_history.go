package chain

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"usher/backends"
)

// wideOutage is how many addresses must fail for the breaker to open without a second opinion. A failure to connect, which
// no address can cause, counts as one. A possible denial is none: the tokens of many viewers may be bad.
const wideOutage = 3

// callHistory tells a backend that fails from a viewer whose own requests fail. It holds what gobreaker's counts do not:
// whose calls were answered, and whose failed.
//
// A failure that a request may have caused counts once per address and window while other addresses get answers in it;
// where none does, each one counts. Safe for concurrent use. It calls nothing, so gobreaker's callbacks may use it.
type callHistory struct {
	window    time.Duration
	threshold int
	addresses *failureDedup

	mu       sync.Mutex
	answered recentAddresses
	failed   recentAddresses // all of them
	// failedItself are those whose failures are no possible denial.
	failedItself recentAddresses
	// latest holds the latest answered requests of two addresses, the newer one first.
	latest [2]answeredRequest
	// lastAnswer is when a call was answered last.
	lastAnswer time.Time
	// streak counts the failures since lastAnswer, those that gobreaker does not count among them.
	streak int
	// overdue counts the calls in flight that have waited for half of their timeout.
	overdue int
	// possibleDenials holds who got a 404, or what else may deny a viewer, since lastAnswer.
	possibleDenials map[openingKey]struct{}
	// connects holds when the last failures to connect came, the latest first.
	connects [wideOutage]time.Time
	// wantsOpinion is set when only a second opinion is missing to open the breaker.
	wantsOpinion bool
	// opinionInFlight is set while a second opinion is asked for.
	opinionInFlight bool
	// opinionDecides is set if the failures before the present opinion would have opened the breaker.
	opinionDecides bool
	// confirmedAt is when a second opinion was a failure too. Zero: not since lastAnswer.
	confirmedAt time.Time
}

// answeredRequest is a request that the backend has answered.
type answeredRequest struct {
	isSet   bool
	address netip.Prefix
	request backends.Request
	// at is when the answer came, and took how long it took.
	at   time.Time
	took time.Duration
}

// asRecheck returns the request as one of a running session.
func (a *answeredRequest) asRecheck() backends.Request {
	r := a.request
	r.Number, r.IsRecheck = max(1, r.Number), true
	return r
}

func newCallHistory(window time.Duration, threshold int) *callHistory {
	return &callHistory{
		window:          window,
		threshold:       threshold,
		addresses:       newFailureDedup(window),
		possibleDenials: make(map[openingKey]struct{}),
	}
}

// recordAnswer records an answer that took that long. It ends a streak of failures.
func (h *callHistory) recordAnswer(r *backends.Request, took time.Duration, now time.Time) {
	address := backends.SubscriberPrefix(r.Address)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered.record(address, now)
	if h.latest[0].address != address {
		h.latest[1] = h.latest[0]
	}
	h.latest[0] = answeredRequest{isSet: true, address: address, request: *r, at: now, took: took}
	h.latest[0].request.OnSent, h.latest[0].request.OnFailure = nil, nil // the caller's own
	h.lastAnswer = now
	h.endStreak()
}

// recordFailure records a failure, and reports whether the breaker counts it. While the breaker is probing, whether
// others get answers is not known, so that each address counts once.
func (h *callHistory) recordFailure(f *backends.Failure, r *backends.Request, isProbing bool, now time.Time) bool {
	if f.IsConnect() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.streak++
		copy(h.connects[1:], h.connects[:])
		h.connects[0] = now
		return true
	}
	address := backends.SubscriberPrefix(r.Address)
	isFirst := h.addresses.isFirst(r.Address, now)
	h.mu.Lock()
	defer h.mu.Unlock()
	if (f.Status == http.StatusNotFound || f.MayBeDenial) && !h.isNewPossibleDenial(r) {
		return false
	}
	h.failed.record(address, now)
	if !f.MayBeDenial {
		h.failedItself.record(address, now)
	}
	h.streak++
	h.wantsOpinion = h.wantsOpinion || h.streak >= h.threshold
	return isFirst || !isProbing && (h.isConfirmed(now) || !h.answered.hasOther(address, now.Add(-h.window)))
}

// isNewPossibleDenial reports whether a 404, or what else may deny a viewer, is the first of its session in this streak. Players repeat a
// request that gets no answer, and one viewer's is no outage however often they ask.
func (h *callHistory) isNewPossibleDenial(r *backends.Request) bool {
	by := keyOf(r)
	_, isKnown := h.possibleDenials[by]
	if !isKnown && len(h.possibleDenials) < maxRemembered {
		h.possibleDenials[by] = struct{}{}
	}
	return !isKnown
}

// opens reports whether the failures so far open the breaker. isOver says whether gobreaker's counts alone would do it.
// Unless the outage is wide it takes a second opinion, which is asked for later; where nobody was ever answered, there is
// none to be had.
func (h *callHistory) opens(isOver bool, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isConfirmed(now) {
		return isOver || h.streak >= h.threshold
	}
	if !isOver {
		return false
	}
	if h.isWide(&h.failedItself, now) || !h.latest[0].isSet {
		return true
	}
	h.wantsOpinion = true
	return false
}

// isWide reports whether no single viewer can have caused the failures in the window, or those since the last answer:
// calls that hang one after another take longer than the window. failed are the addresses that count.
func (h *callHistory) isWide(failed *recentAddresses, now time.Time) bool {
	start := now.Add(-h.window)
	if h.lastAnswer.Before(start) {
		start = h.lastAnswer
	}
	connects := 0
	for _, at := range h.connects {
		if !at.IsZero() && !at.Before(start) {
			connects++
		}
	}
	return connects >= min(wideOutage, h.threshold) || connects+failed.since(start) >= wideOutage
}

// takeOpinion returns the answered request to ask again, if a second opinion is wanted and none is in flight. It prefers
// one of an address that has not failed since. The caller must call endOpinion.
func (h *callHistory) takeOpinion(now time.Time) (answered answeredRequest, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.wantsOpinion {
		return answeredRequest{}, false
	}
	return h.startOpinion(now)
}

// takeEarlyOpinion is takeOpinion for a call that began at start and is overdue. An opinion is wanted if no call was
// answered since, and the overdue calls would open the breaker if they failed. The caller must call endOverdue.
func (h *callHistory) takeEarlyOpinion(start, now time.Time) (answered answeredRequest, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.overdue++
	if h.streak+h.overdue < h.threshold || h.lastAnswer.After(start) {
		return answeredRequest{}, false
	}
	return h.startOpinion(now)
}

// endOverdue records that an overdue call has ended.
func (h *callHistory) endOverdue() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.overdue--
}

// latestAnswered returns the latest answered request as a re-check, if there is one.
func (h *callHistory) latestAnswered() (r backends.Request, isKnown bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latest[0].asRecheck(), h.latest[0].isSet
}

func (h *callHistory) startOpinion(now time.Time) (answered answeredRequest, ok bool) {
	if h.opinionInFlight || !h.latest[0].isSet || h.isConfirmed(now) {
		return answeredRequest{}, false
	}
	h.opinionInFlight, h.opinionDecides, h.wantsOpinion = true, h.wantsOpinion, false
	if h.latest[1].isSet && h.failed.has(h.latest[0].address, h.latest[0].at) {
		return h.latest[1], true
	}
	return h.latest[0], true
}

// another returns an answered request of another address than that of one whose second opinion may be a denial, to ask that again too. It
// is none that has failed since its answer: its viewer may have been answered only to be refused now. isWide reports whether so many addresses fail that no single viewer can have caused it, possible denials included.
func (h *callHistory) another(than answeredRequest, now time.Time) (answered answeredRequest, isKnown, isWide bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	isWide = h.isWide(&h.failed, now)
	for _, answered := range h.latest {
		if answered.isSet && answered.address != than.address && !h.failed.has(answered.address, answered.at) {
			return answered, true, isWide
		}
	}
	return answeredRequest{}, false, isWide
}

// confirm records that the second opinion, asked for at start, was a failure too, unless another call was answered
// meanwhile. It reports whether the breaker counts it: only where the viewers' failures would have opened the breaker.
func (h *callHistory) confirm(start, now time.Time) (counts bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lastAnswer.After(start) {
		return false
	}
	h.confirmedAt = now
	return h.opinionDecides || h.wantsOpinion || h.streak >= h.threshold
}

// endOpinion lets the next second opinion be asked for. It returns the address that failed last.
func (h *callHistory) endOpinion() netip.Prefix {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opinionInFlight = false
	return h.failed[0].address
}

// reset forgets the present streak.
func (h *callHistory) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endStreak()
}

func (h *callHistory) endStreak() {
	h.streak, h.wantsOpinion, h.confirmedAt = 0, false, time.Time{}
	clear(h.possibleDenials)
}

func (h *callHistory) isConfirmed(now time.Time) bool {
	return !h.confirmedAt.IsZero() && now.Sub(h.confirmedAt) < h.window
}
