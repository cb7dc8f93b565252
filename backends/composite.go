package backends

import "time"

// Member is a backend that a composite backend (any, rules) asks.
type Member struct {
	// Name is the member's name in the config.
	Name string
	// Backend is the member's chain without its outage policy: the composite decides what holds when it fails. It may
	// answer Pending without an error: the member has no opinion on the viewer.
	Backend Backend
	// Validity is how long the member's answers hold if they do not say.
	Validity time.Duration
	// DecideWithoutCall returns what the member decides on a viewer without a call; nil: nothing.
	DecideWithoutCall func(r *Request) (d Decision, isDecided bool)
	// State returns the state of the member's breaker; nil: it decides in this process, and so always answers at once.
	State func() BreakerState
}
