package backends

import "time"

// Member is a backend that another one joins with others.
type Member struct {
	// Name is its name in the config.
	Name string
	// Backend asks it, bulkhead and breaker and all, but without its outage policy: what holds when it fails is for
	// whoever joins it to say. Beside a yes and a no it may answer with an Undecided decision and no error: it has no
	// opinion on this viewer.
	Backend Backend
	// Validity is how long its answers hold if it does not say.
	Validity time.Duration
}
