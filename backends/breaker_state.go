package backends

// BreakerState is the state of a backend's circuit breaker.
type BreakerState uint32

// The states.
const (
	// BreakerClosed means that every check calls the backend.
	BreakerClosed BreakerState = iota
	// BreakerHalfOpen: probes alone call the backend.
	BreakerHalfOpen
	// BreakerOpen means that no check calls the backend.
	BreakerOpen
)

// String returns the state as logs, metrics and traces show it.
func (s BreakerState) String() string { return [...]string{"closed", "half-open", "open"}[s] }
