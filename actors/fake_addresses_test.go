package actors

import (
	"sync"

	"usher/actors/session"
	"usher/backends"
)

// fakeAddresses keeps the addresses that use each ticket. All count for ever.
type fakeAddresses struct {
	mu      sync.Mutex
	tickets map[string]map[backends.SessionID]bool
	renewed []session.StreamEntry
	// renewals counts the calls that renew.
	renewals int
}

func (f *fakeAddresses) report(entries []session.StreamEntry) session.LimitResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := entries[len(entries)-1]
	if f.tickets == nil {
		f.tickets = map[string]map[backends.SessionID]bool{}
	}
	known := f.tickets[last.User]
	if known == nil {
		known = map[backends.SessionID]bool{}
		f.tickets[last.User] = known
	}
	states := make([]session.StreamState, len(entries))
	switch {
	case last.IsLeaving:
		delete(known, last.Session)
	case last.IsNew:
		for _, e := range entries[:len(entries)-1] {
			known[e.Session] = true
		}
		if !known[last.Session] && len(known) >= last.MaxStreams {
			states[len(states)-1] = session.StreamEvicted
			break
		}
		known[last.Session] = true
	default:
		f.renewals++
		f.renewed = append(f.renewed, entries...)
	}
	return session.LimitResult{States: states}
}

// count returns how many addresses use a ticket.
func (f *fakeAddresses) count(ticket backends.SessionID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tickets[ticket.String()])
}
