package backends

import "time"

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

// ForcedBreaker is an operator's order that keeps a backend's breaker in one state.
type ForcedBreaker struct {
	// Backend is the backend's name in the config.
	Backend string
	// IsForced is false for an order that ends another one.
	IsForced bool
	// State is BreakerOpen (no check is sent) or BreakerClosed (every check is sent, whatever is answered).
	State BreakerState
	// Until is when the order ends. One that ends another is remembered until then.
	Until time.Time
	// Reason is the operator's, and By is who they are.
	Reason, By string
	// Version is higher than that of each older order on the backend.
	Version int64
}
