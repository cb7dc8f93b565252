package anyof

import "sync"

// callState is the state of the call to one member.
type callState uint8

const (
	callQueued callState = iota // waits for a free slot
	callSent                    // the member's backend has the request
	callDone                    // the member has answered
)

// sentNotifier calls the caller's OnSent once no member has the request queued any more. Until then the caller must not
// count the time as the backends'.
type sentNotifier struct {
	mu     sync.Mutex
	states []callState
	onSent func() // the caller's; nil: not wanted, called already, or stopped
}

func newSentNotifier(members int, onSent func()) *sentNotifier {
	if onSent == nil {
		return &sentNotifier{}
	}
	return &sentNotifier{states: make([]callState, members), onSent: onSent}
}

// onMemberSent returns the OnSent of one member's request; nil if the caller wants no notice.
func (n *sentNotifier) onMemberSent(member int) func() {
	if n.states == nil {
		return nil
	}
	return func() { n.setState(member, callSent) }
}

// setState records the state of a member's call and notifies the caller when it is due.
func (n *sentNotifier) setState(member int, state callState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.onSent == nil {
		return
	}
	n.states[member] = state
	isSent := false
	for _, s := range n.states {
		if s == callQueued {
			return
		}
		isSent = isSent || s == callSent
	}
	if isSent {
		n.onSent()
		n.onSent = nil
	}
}

// stop keeps calls that outlive the check from notifying the caller.
func (n *sentNotifier) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onSent = nil
}
