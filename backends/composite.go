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
}
