package anyof

import "sync"

// place is where one member has the question.
type place uint8

const (
	queued place = iota // it waits for a free slot
	out                 // its backend has it
	back                // it is answered
)

// departure tells the caller that the question is out (Asking): once no member has it queued any more. As long as one
// has, the caller must not count the time as the backends'.
type departure struct {
	mu     sync.Mutex
	places []place
	asking func() // the caller's; nil: nobody wants to know, or not any more
}

func newDeparture(members int, asking func()) *departure {
	if asking == nil {
		return &departure{}
	}
	return &departure{places: make([]place, members), asking: asking}
}

// hook is what the member calls when its backend gets the question; nil if nobody wants to know.
func (d *departure) hook(member int) func() {
	if d.places == nil {
		return nil
	}
	return func() { d.move(member, out) }
}

// move notes where the member has the question now.
func (d *departure) move(member int, to place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asking == nil {
		return
	}
	d.places[member] = to
	isOut := false
	for _, p := range d.places {
		if p == queued {
			return
		}
		isOut = isOut || p == out
	}
	if isOut {
		d.asking()
		d.asking = nil
	}
}

// forget keeps calls that outlive the check from telling anybody.
func (d *departure) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking = nil
}
