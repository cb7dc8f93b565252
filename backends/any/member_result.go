package anyof

import "usher/backends"

// memberResult is what came of asking one member. The zero value: nothing yet.
type memberResult struct {
	member   int // its place in the config
	isReceived    bool
	decision backends.Decision
	err      error
}

// resultRank says whose answer counts.
type resultRank uint8

// The weights, rising. An overloaded member could still say yes or no, so the viewer is asked to come back; letting
// another's failure count before it would let in whom a flood kept from being asked about.
const (
	rankUndecided resultRank = iota
	rankDenied
	rankFailed      // in a way that the viewer's own words may have caused
	rankUnreachable // in a way that no viewer can cause
	rankOverloaded
	rankAllowed
)

func (a memberResult) rank() resultRank {
	switch f := backends.AsFailure(a.err); {
	case !a.isReceived:
		return rankUnreachable // it had time until the deadline
	case backends.IsOverload(a.err):
		return rankOverloaded
	case f != nil && (f.IsTransport() || f.Kind == backends.FailureBreakerOpen):
		return rankUnreachable
	case a.err != nil:
		return rankFailed
	}
	switch a.decision.Verdict {
	case backends.Allowed:
		return rankAllowed
	case backends.Denied:
		return rankDenied
	default:
		return rankUndecided
	}
}
