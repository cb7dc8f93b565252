package timeline

// Trigger is why a session was decided on. Its strings are a closed set.
type Trigger uint8

// The triggers.
const (
	// Opening is the check of a viewer who waits, or what decides in its place.
	Opening Trigger = iota
	// Recheck is a check of a session that has a decision.
	Recheck
	// Lookup takes over what another node has decided, from the store.
	Lookup
	// Expiry decides on a session whose decision has expired and whose backend cannot be asked.
	Expiry
	// Revocation takes over what another node's backend has denied, as soon as it was.
	Revocation
	// Limit evicts a session because its user has too many streams.
	Limit
	// Superseded ends a session whose viewer plays another channel.
	Superseded
	// Kick and Ban are an operator's.
	Kick
	Ban
)

// String returns the trigger as the API shows it.
func (t Trigger) String() string {
	return [...]string{
		"opening", "recheck", "lookup", "expiry", "revocation", "limit", "superseded", "kick", "ban",
	}[t]
}

// isRoutine reports whether equal entries may be merged.
func (t Trigger) isRoutine() bool { return t == Recheck || t == Lookup }
