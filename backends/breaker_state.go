package backends

// BreakerState is whether a backend is being asked.
type BreakerState uint32

// The states. Half-open: it is being tried again; all but the tries still count as open.
const (
	BreakerClosed BreakerState = iota
	BreakerHalfOpen
	BreakerOpen
)

// String is the state as logs, metrics and traces show it.
func (s BreakerState) String() string { return [...]string{"closed", "half-open", "open"}[s] }
