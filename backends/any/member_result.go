package anyof

import "usher/backends"

// answer is what came of asking one member. The zero value: nothing yet.
type answer struct {
	member   int // its place in the config
	given    bool
	decision backends.Decision
	err      error
}

// weight says whose answer counts.
type weight uint8

// The weights, rising. An overloaded member could still say yes or no, so the viewer is asked to come back; letting
// another's failure count before it would let in whom a flood kept from being asked about.
const (
	noOpinion weight = iota
	no
	failed      // in a way that the viewer's own words may have caused
	unreachable // in a way that no viewer can cause
	overloaded
	yes
)

func (a answer) weight() weight {
	switch f := backends.AsFailure(a.err); {
	case !a.given:
		return unreachable // it had time until the deadline
	case backends.IsOverload(a.err):
		return overloaded
	case f != nil && (f.IsTransport() || f.Kind == backends.FailureBreakerOpen):
		return unreachable
	case a.err != nil:
		return failed
	}
	switch a.decision.Verdict {
	case backends.Allowed:
		return yes
	case backends.Denied:
		return no
	default:
		return noOpinion
	}
}
