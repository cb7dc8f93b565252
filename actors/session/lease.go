package session

import (
	"time"

	"usher/backends"
)

// LeaseRequest asks the store for a session, and for its lease: the right of one node to check the session now. The other
// nodes take that node's decision.
type LeaseRequest struct {
	ID backends.SessionID
	// KnownRevision is the [Record.Revision] of the decision that the node has; zero: it has none. Only a valid decision of a
	// newer revision is an answer. Without a known one any valid decision is.
	KnownRevision uint64
	// Lease is how long the lease lasts, longer than a check may take. Zero asks for none.
	Lease time.Duration
	// Wait is how long to wait while another node holds the lease. After that the lease passes to this node, if it asks for
	// one.
	Wait time.Duration
	// Known is the session as the node has it, which must not be changed: a store that holds the same record says so in place of the
	// record. Nil: the record is wanted in any case. CheckNumber, Expires and Revision do not matter.
	Known *Record
}

// LeaseResult is the store's answer to a [LeaseRequest]. With a Revision the node checks the session, and saves the decision
// under that revision. Otherwise a valid decision in Record, newer than the known one, is the answer. Otherwise, if
// HeldElsewhere, another node checks the session.
type LeaseResult struct {
	// Record is what is stored, if Found. Its decision may have expired. It is pending where only a revoked ticket or a kick
	// is stored.
	Record Record
	Found  bool
	// Fingerprint is not 0 if the store holds the record of [LeaseRequest.Known], and the session was neither refused nor evicted. Then
	// Record is made of that one.
	Fingerprint uint64
	// Revision is the revision of the granted lease; zero: none was granted.
	Revision uint64
	// HeldElsewhere reports that another node holds the lease.
	HeldElsewhere bool
}

// DecisionUpdate stores a decision and releases its lease.
type DecisionUpdate struct {
	// Record is the session as it stands now. Its Revision is that of the lease under which the session was checked; zero: it
	// was decided without a lease. A decision whose source is not authoritative never replaces one whose source is. A
	// pending decision is not stored: the update only releases the lease.
	Record Record
	// RevokeTicket refuses the session's tickets that were opened at Record.Opened or before, because the session was denied
	// while it ran.
	RevokeTicket bool
	// Fingerprint is [LeaseResult.Fingerprint] if Record is still the same, and the store need not be sent it again; otherwise 0.
	Fingerprint uint64
}

// UpdateOutcome is what has become of a [DecisionUpdate].
type UpdateOutcome uint8

// The outcomes.
const (
	// OutcomeStored means that the store has the decision.
	OutcomeStored UpdateOutcome = iota
	// OutcomeKept means that the stored decision stays: its source is authoritative, a newer version of Usher wrote it, or the
	// session was opened later elsewhere and only older tickets are revoked.
	OutcomeKept
	// OutcomeStale means that another node's lease is newer, or that another node has opened the session later and admitted its viewer.
	// The decision was not stored.
	OutcomeStale
	// OutcomeDeferred means that the store is unavailable. It revokes the ticket and announces that once it has recovered, unless
	// the viewer was allowed since.
	OutcomeDeferred
)

// String returns the outcome for logs and tests.
func (o UpdateOutcome) String() string { return [...]string{"stored", "kept", "stale", "deferred"}[o] }
