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

func (f *fakeAddresses) join(e session.StreamEntry, root *session.StreamEntry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tickets == nil {
		f.tickets = map[string]map[backends.SessionID]bool{}
	}
	if f.tickets[e.User] == nil {
		f.tickets[e.User] = map[backends.SessionID]bool{}
	}
	known := f.tickets[e.User]
	if root != nil {
		known[root.Session] = true
	}
	if !known[e.Session] && len(known) >= e.MaxStreams {
		return false
	}
	known[e.Session] = true
	return true
}

func (f *fakeAddresses) renew(entries []session.StreamEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewals++
	f.renewed = append(f.renewed, entries...)
}

func (f *fakeAddresses) leave(ticket string, id backends.SessionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tickets[ticket], id)
}

// count returns how many addresses use a ticket.
func (f *fakeAddresses) count(ticket backends.SessionID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tickets[ticket.String()])
}
