package anyof

import "sync"

// callState is where one member has the question.
type callState uint8

const (
	callQueued callState = iota // it waits for a free slot
	callSent                 // its backend has it
	callDone                // it is answered
)

// sentNotifier tells the caller that the question is out (Asking): once no member has it queued any more. As long as one
// has, the caller must not count the time as the backends'.
type sentNotifier struct {
	mu     sync.Mutex
	states []callState
	onSent func() // the caller's; nil: nobody wants to know, or not any more
}

func newSentNotifier(members int, asking func()) *sentNotifier {
	if asking == nil {
		return &sentNotifier{}
	}
	return &sentNotifier{states: make([]callState, members), onSent: asking}
}

// onMemberSent is what the member calls when its backend gets the question; nil if nobody wants to know.
func (d *sentNotifier) onMemberSent(member int) func() {
	if d.states == nil {
		return nil
	}
	return func() { d.setState(member, callSent) }
}

// setState notes where the member has the question now.
func (d *sentNotifier) setState(member int, to callState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.onSent == nil {
		return
	}
	d.states[member] = to
	isOut := false
	for _, p := range d.states {
		if p == callQueued {
			return
		}
		isOut = isOut || p == callSent
	}
	if isOut {
		d.onSent()
		d.onSent = nil
	}
}

// stop keeps calls that outlive the check from telling anybody.
func (d *sentNotifier) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onSent = nil
}
