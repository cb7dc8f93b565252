package admin

import (
	"net/netip"
	"strings"
	"time"
)

// Session is a live session as the API shows it.
type Session struct {
	ID        string    `json:"id"`
	Route     string    `json:"route"`
	Channel   string    `json:"channel"`
	Backend   string    `json:"backend"`
	User      string    `json:"user,omitempty"`
	UserID    string    `json:"user_id,omitempty"`
	Address   string    `json:"address"`
	UserAgent string    `json:"user_agent,omitempty"`
	Verdict   string    `json:"verdict"`
	Source    string    `json:"source"`
	Reason    string    `json:"reason,omitempty"`
	Since     time.Time `json:"started"`
	LastSeen  time.Time `json:"last_seen"`
	Requests  int64     `json:"requests"`
	Bytes     int64     `json:"bytes"`
	// Nodes are the names of the nodes that hold it, sorted; empty where there is no cluster.
	Nodes []string `json:"nodes,omitempty"`
}

// Filter is what a session must be to be listed. Its zero value takes every session. It travels between nodes.
type Filter struct {
	ID      string `json:"id,omitempty"`
	Channel string `json:"channel,omitempty"`
	Route   string `json:"route,omitempty"`
	Backend string `json:"backend,omitempty"`
	// User is the user's name or id.
	User    string `json:"user,omitempty"`
	Verdict string `json:"verdict,omitempty"`
	Source  string `json:"source,omitempty"`
	// Address is where its viewer is; the zero prefix is anywhere.
	Address netip.Prefix `json:"address,omitzero"`
	// Query is what the id, the channel, the user's name or id, the address or the User-Agent begins with, in capitals
	// or small letters.
	Query string `json:"q,omitempty"`
	// After is the id of a session: those up to it are counted but not listed. It is how a long list goes on.
	After string `json:"after,omitempty"`
	// Node is the name of a node: of the others nothing is heard.
	Node string `json:"node,omitempty"`
}

// IsZero reports whether the filter takes every session.
func (f *Filter) IsZero() bool { return *f == Filter{After: f.After} }

// Matches reports whether the filter takes the session. It does not look at After and Node.
func (f *Filter) Matches(s *Session) bool {
	is := func(want, value string) bool { return want == "" || want == value }
	return is(f.ID, s.ID) && is(f.Channel, s.Channel) && is(f.Route, s.Route) && is(f.Backend, s.Backend) &&
		(is(f.User, s.User) || is(f.User, s.UserID)) && is(f.Verdict, s.Verdict) && is(f.Source, s.Source) &&
		f.isThere(s.Address) && f.begins(s)
}

func (f *Filter) isThere(address string) bool {
	if !f.Address.IsValid() {
		return true
	}
	at, err := netip.ParseAddr(address)
	return err == nil && f.Address.Contains(at.Unmap())
}

func (f *Filter) begins(s *Session) bool {
	if f.Query == "" {
		return true
	}
	for _, value := range [...]string{s.ID, s.Channel, s.User, s.UserID, s.Address, s.UserAgent} {
		if len(value) >= len(f.Query) && strings.EqualFold(value[:len(f.Query)], f.Query) {
			return true
		}
	}
	return false
}

// SessionList is what a search found on all nodes.
type SessionList struct {
	// Total is how many sessions are live, and Matched how many of them were asked for. A session that several nodes hold
	// counts once.
	Total   int `json:"total"`
	Matched int `json:"matched"`
	// Approximate: there are so many that Total and Matched are estimates, 3 % off as a rule.
	Approximate bool `json:"approximate,omitempty"`
	// Sessions are those that matched, by their ids, up to a limit.
	Sessions []Session `json:"sessions"`
	// Silent are nodes that did not answer, sorted: what they alone hold is missing.
	Silent []string `json:"unreachable_nodes,omitempty"`
}
