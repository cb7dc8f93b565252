package anyof

import "usher/backends"

// memberResult is the result of one member's check. The zero value: none yet.
type memberResult struct {
	member     int // index in the config's order
	isReceived bool
	decision   backends.Decision
	err        error
}

// resultRank orders results: the highest decides.
type resultRank uint8

// The ranks, ascending. An overloaded member might still allow or deny, so the viewer retries later. If another
// member's failure ranked higher, it would allow viewers whose checks a flood displaces.
const (
	rankPending resultRank = iota
	rankDenied
	rankFailed      // an answer outside of the contract, which the viewer's own input may have caused
	rankUnreachable // no answer at all, as in an outage
	rankOverloaded
	rankAllowed
)

func (r memberResult) rank() resultRank {
	switch f := backends.AsFailure(r.err); {
	case !r.isReceived:
		return rankUnreachable // the deadline passed
	case backends.IsOverload(r.err):
		return rankOverloaded
	case f != nil && (f.IsTransport() || f.Kind == backends.FailureBreakerOpen):
		return rankUnreachable
	case r.err != nil:
		return rankFailed
	}
	switch r.decision.Verdict {
	case backends.Allowed:
		return rankAllowed
	case backends.Denied:
		return rankDenied
	default:
		return rankPending
	}
}
