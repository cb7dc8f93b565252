package session

import (
	"time"

	"usher/backends"
)

// LeaseRequest asks the store for a session, so that one node asks the backend about it and the others take its answer.
type LeaseRequest struct {
	ID backends.SessionID
	// KnownRevision is the [Record.Revision] of the decision that the node stands on; zero: it has none. Only a decision that holds
	// and is newer than that is an answer; without one, any that holds.
	KnownRevision uint64
	// Lease is for how long nobody else shall ask if this node is to. It outlives the call's timeout. Zero only looks.
	Lease time.Duration
	// Wait is how long to wait while somebody else asks. After that the lease is taken from him, if one is wanted.
	Wait time.Duration
}

// LeaseResult is what the store says. If Fence is not zero, the node is to ask the backend and to publish what it says under
// that number. Else, if Record.Decision holds and is newer than what was known, it is the answer. Else, if Asking, somebody
// else asks.
type LeaseResult struct {
	// Record is what is remembered, if Found; its decision may have run out, and may be missing (Undecided) where only a
	// burial or a kick is remembered.
	Record Record
	Found  bool
	// Revision is the number of the lease that was granted; zero: none was.
	Revision uint64
	// HeldElsewhere: somebody else holds a lease.
	HeldElsewhere bool
}

// DecisionUpdate is a decision on its way to the store.
type DecisionUpdate struct {
	// Record is the session as it stands now. Record.Fence is that of the lease under which it was asked about; zero:
	// nobody was asked, or without the store. A decision that nobody who knows the viewer took ([Source.IsAuthoritative]) never
	// replaces one that somebody did. An Undecided one stores nothing: it only gives the lease back.
	Record Record
	// RevokeTicket refuses the tickets that were opened at Record.Opened or before: the session was denied while it ran.
	RevokeTicket bool
}

// UpdateOutcome is what became of a publication.
type UpdateOutcome uint8

// The outcomes. Kept: a backend's answer stands that was not to be replaced, or a record that a newer version of ours
// wrote. Stale: somebody asked later; nothing was changed.
const (
	OutcomeStored UpdateOutcome = iota
	OutcomeKept
	OutcomeStale
)

// String is the outcome for logs and tests.
func (p UpdateOutcome) String() string { return [...]string{"stored", "kept", "stale"}[p] }
