package session

import "time"

// Action is what the shell must do after an event. It is a plain value that tests compare with ==.
type Action struct {
	Lookup       LookupKind    // ask the store
	StartCheck   bool          // start the check of number State.CheckNumber
	Enqueue      QueuePriority // queue the session for a re-check slot
	ReturnSlot   bool          // return the re-check slot unused
	Publish      bool          // show State.Decision to requests
	Save         bool          // store State.Decision
	ReleaseLease bool          // release the lease without storing a decision
	RevokeTicket bool          // store that the session's tickets are refused
	Revision     uint64        // revision of the write to the store
	Close        CloseReason   // close the session
	WakeAt       time.Time     // when the timer fires next; zero: unchanged
}

// LookupKind is what a session asks the store for.
type LookupKind uint8

// The kinds of lookup.
const (
	NoLookup         LookupKind = iota
	LookupForOpening            // a viewer waits: read the session, or get the lease
	LookupForRecheck            // the session has a re-check slot: get the lease, or another node's answer
	LookupOnly                  // read the session, without a lease
)

// QueuePriority is the queue in which a session waits for a re-check slot.
type QueuePriority uint8

// The queues, the first one served first.
const (
	NotQueued          QueuePriority = iota
	PriorityUnverified               // admitted without an answer
	PriorityOverdue                  // the answer's validity is over
)

// CloseReason is why a session closes. Its strings are a closed set.
type CloseReason uint8

// The reasons.
const (
	NotClosing          CloseReason = iota
	ClosedIdle                      // the viewer has stopped asking
	closedDenied                    // a running session was denied
	closedForgotten                 // a remembered denial, or a retry, has expired
	closedUnknownTicket             // no record, and the ticket does not admit
	closedSuperseded                // the viewer plays another channel
	closedNodeStopped               // the only node has stopped
)

// String returns the reason as logs show it.
func (r CloseReason) String() string {
	return [...]string{"", "idle", "denied", "forgotten", "unknown-ticket", "superseded", "node-stopped"}[r]
}
