package chain

import (
	"context"
	"log/slog"
	"time"

	"usher/backends"
)

// This file asks for a second opinion: whether the backend fails, or only what a few addresses ask of it.

// opinionWarnInterval bounds how often an outage that was none is logged.
const opinionWarnInterval = time.Minute

// seekOpinion asks for a second opinion in the background, if one is wanted.
func (b *Breaker) seekOpinion(ctx context.Context) {
	if answered, ok := b.history.takeOpinion(time.Now()); ok {
		go b.askAgain(ctx, answered, b.timeout)
	}
}

// seekEarlyOpinion asks for one while a call that began at start waits, if as many wait as open the breaker. So a backend
// that hangs for everybody is found as soon as the viewers' calls end, rather than a timeout later.
func (b *Breaker) seekEarlyOpinion(ctx context.Context, start time.Time) {
	if answered, ok := b.history.takeEarlyOpinion(start, time.Now()); ok {
		b.askAgain(ctx, answered, b.earlyTimeout(answered.took))
	}
}

// askAgain asks an answered request again within timeout, as a re-check. A No is an answer: its credentials may have expired since. So
// may a possible denial be one, unless the request was answered a moment ago, or so many addresses fail that the credentials of all of them
// are hardly old.
func (b *Breaker) askAgain(ctx context.Context, answered answeredRequest, timeout time.Duration) {
	if b.IsDown() || b.forced.Load() != nil { // probes decide, or an operator
		b.history.endOpinion()
		return
	}
	_, err := b.execute(func() (backends.Decision, error) { return b.opinion(context.WithoutCancel(ctx), answered, timeout) })
	address := b.history.endOpinion()
	if err == nil && address.IsValid() && b.mayWarn(time.Now()) {
		b.log.Warn("backend fails for few addresses and answers others, breaker stays closed; look at what the address sends",
			slog.String("backend", b.name), slog.String("address", address.String()))
	}
}

// opinion asks an answered request again, and another one where the first says nothing. Its error is excluded unless the breaker counts
// it.
func (b *Breaker) opinion(ctx context.Context, answered answeredRequest, timeout time.Duration) (backends.Decision, error) {
	begin := time.Now()
	start := begin
	d, err := b.repeat(ctx, answered, timeout)
	saysNothing := mayBeNo(err, start.Sub(answered.at))
	if saysNothing {
		other, isKnown, isWide := b.history.another(answered, time.Now())
		if start = time.Now(); isKnown {
			answered = other
			d, err = b.repeat(ctx, answered, timeout)
			saysNothing = mayBeNo(err, start.Sub(answered.at))
		}
		saysNothing = saysNothing && !isWide
	}
	isCounted := false
	switch {
	case err == nil:
		r := answered.asRecheck()
		isCounted = b.counts(&r, d, nil, start)
	case backends.AsFailure(err) != nil && !saysNothing:
		isCounted = b.history.confirm(begin, time.Now())
	}
	if !isCounted {
		err = excluded{err}
	}
	return d, err
}

// repeat asks an answered request again within timeout, as a re-check.
func (b *Breaker) repeat(ctx context.Context, answered answeredRequest, timeout time.Duration) (backends.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := answered.asRecheck()
	return b.callWithHardDeadline(ctx, &r)
}

// freshAnswer is how long ago a request was answered at most whose credentials are still good.
const freshAnswer = 5 * time.Second

// mayBeNo reports whether the failure of a request, which was answered so long ago, may be one of its credentials.
func mayBeNo(err error, ago time.Duration) bool {
	f := backends.AsFailure(err)
	return f != nil && f.MayBeDenial && ago > freshAnswer
}

// earlyTimeout returns the time for an early opinion on a request that was answered in took: the other half of the viewers'
// timeout, or more where the backend was slower than that.
func (b *Breaker) earlyTimeout(took time.Duration) time.Duration {
	return min(b.timeout, max(b.timeout/2, 4*took))
}

// mayWarn reports whether nothing was logged for opinionWarnInterval.
func (b *Breaker) mayWarn(now time.Time) bool {
	last := b.warnedAt.Load()
	return now.Unix()-last >= int64(opinionWarnInterval/time.Second) && b.warnedAt.CompareAndSwap(last, now.Unix())
}
