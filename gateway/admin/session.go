package admin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Session is a live session in the API.
type Session struct {
	ID        string    `json:"id"`
	Route     string    `json:"route"`
	Channel   string    `json:"channel"`
	Backend   string    `json:"backend"`
	User      string    `json:"user,omitempty"`
	UserID    string    `json:"user_id,omitempty"`
	Address   string    `json:"address"`
	UserAgent string    `json:"user_agent,omitempty"` // shortened
	Verdict   string    `json:"verdict"`
	Source    string    `json:"source"`
	Reason    string    `json:"reason,omitempty"`
	Started   time.Time `json:"started"`
	LastSeen  time.Time `json:"last_seen"`
	Requests  int64     `json:"requests"`
	Bytes     int64     `json:"bytes"`
	// Nodes are the names of the nodes that hold it, sorted; empty without a cluster.
	Nodes []string `json:"nodes,omitempty"`
}

// prefix returns the subscriber prefix of the viewer.
func (s *Session) prefix() netip.Prefix {
	address, _ := netip.ParseAddr(s.Address)
	return backends.SubscriberPrefix(address)
}

// maxUserAgent bounds what a viewer can make a session of the API hold, in bytes, so that a list of them fits into a message. The
// channel is bounded by the URL, and what the backend says by the backend.
const maxUserAgent = 256

// NewSession returns a session as it is now.
func NewSession(s session.Handle) Session {
	r := s.Request()
	shown := Session{
		ID: s.ID().String(), Route: r.Route, Channel: r.Channel, Backend: r.Backend,
		Address: r.Address.String(), UserAgent: r.UserAgent[:min(len(r.UserAgent), maxUserAgent)],
		Verdict: backends.Pending.String(), Source: backends.SourceNone.String(),
		Started: s.Ticket().Opened, LastSeen: s.LastSeen(), Requests: s.Requests(), Bytes: s.Bytes(),
	}
	if d := s.Decision(); d != nil {
		shown.Verdict, shown.Source, shown.Reason = d.Verdict.String(), d.Source.String(), d.Reason
		shown.User, shown.UserID = d.User, d.UserID
	}
	return shown
}

// Filter selects sessions. The zero value matches every session. Its JSON travels between nodes.
type Filter struct {
	ID      string `json:"id,omitempty"`
	Channel string `json:"channel,omitempty"`
	Route   string `json:"route,omitempty"`
	Backend string `json:"backend,omitempty"`
	// User is the user's name or id.
	User    string `json:"user,omitempty"`
	Verdict string `json:"verdict,omitempty"`
	Source  string `json:"source,omitempty"`
	// Address is a prefix that contains the viewer's address; the zero prefix matches every address.
	Address prefix `json:"address,omitzero"`
	// Query is a prefix of the id, the channel, the user's name or id, the address or the User-Agent. Case does not matter.
	Query string `json:"q,omitempty"`
	// After is the id of a session. Sessions up to it are counted but not listed, so that a long list can be paged.
	After string `json:"after,omitempty"`
	// Node is the name of the only node whose sessions match.
	Node string `json:"node,omitempty"`
	// CredentialsOf is the id of a session. Sessions match whose viewers presented its credentials, whatever else they
	// presented.
	CredentialsOf string `json:"credentials_of,omitempty"`
}

// IsZero reports whether the filter matches every session.
func (f *Filter) IsZero() bool { return *f == Filter{After: f.After} }

// Matches reports whether the filter matches the session. It ignores After, Node and CredentialsOf.
func (f *Filter) Matches(s *Session) bool {
	is := func(want, value string) bool { return want == "" || want == value }
	return is(f.ID, s.ID) && is(f.Channel, s.Channel) && is(f.Route, s.Route) && is(f.Backend, s.Backend) &&
		(is(f.User, s.User) || is(f.User, s.UserID)) && is(f.Verdict, s.Verdict) && is(f.Source, s.Source) &&
		f.matchesAddress(s.Address) && f.matchesPrefix(s)
}

// validate reports a value that no session could have.
func (f *Filter) validate() error {
	var verdicts, sources []string
	for v := backends.Pending; v <= backends.Denied; v++ {
		verdicts = append(verdicts, v.String())
	}
	for s := backends.SourceNone; s <= backends.FromOperator; s++ {
		sources = append(sources, s.String())
	}
	return errors.Join(validateID("id", f.ID), validateID("after", f.After), validateID("credentials_of", f.CredentialsOf),
		validateName("verdict", f.Verdict, verdicts), validateName("source", f.Source, sources))
}

// validateID reports a text that is no id of a session, unless it is empty.
func validateID(parameter, text string) error {
	if text == "" {
		return nil
	}
	if _, err := backends.ParseSessionID(text); err != nil {
		return fmt.Errorf("%s: %w: %w", parameter, errInvalidInput, err)
	}
	return nil
}

// validateName reports a text that is none of the names, unless it is empty.
func validateName(parameter, text string, names []string) error {
	if text == "" || slices.Contains(names, text) {
		return nil
	}
	return fmt.Errorf("%s: %w: %q; want %s", parameter, errInvalidInput, text, strings.Join(names, ", "))
}

// mayMatch reports whether the filter may match a session, without a cost that counts for a million of them.
func (f *Filter) mayMatch(h session.Handle) bool {
	r, d := h.Request(), h.Decision()
	if d == nil {
		d = new(backends.Decision)
	}
	is := func(want, value string) bool { return want == "" || want == value }
	return is(f.Channel, r.Channel) && is(f.Backend, r.Backend) && is(f.Route, r.Route) &&
		(is(f.User, d.User) || is(f.User, d.UserID)) && (!f.Address.IsValid() || f.Address.Contains(r.Address.Unmap())) &&
		(f.ID == "" || f.ID == h.ID().String())
}

func (f *Filter) matchesAddress(address string) bool {
	if !f.Address.IsValid() {
		return true
	}
	at, err := netip.ParseAddr(address)
	return err == nil && f.Address.Contains(at.Unmap())
}

func (f *Filter) matchesPrefix(s *Session) bool {
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

// SessionList is a list of sessions of all nodes. A session that several nodes hold counts once.
type SessionList struct {
	// Total counts the live sessions.
	Total int `json:"total"`
	// Matched counts the live sessions that match the filter.
	Matched int `json:"matched"`
	// Approximate reports that these counts are estimates, with a standard error of 3 %.
	Approximate bool `json:"approximate,omitempty"`
	// Sessions are the matching sessions in the order of their ids, up to a limit.
	Sessions []Session `json:"sessions"`
	// HasMore reports that others match, after the last of Sessions.
	HasMore bool `json:"more,omitempty"`
	// UnreachableNodes are the names of the nodes that did not respond, sorted. Sessions that only they hold are missing.
	UnreachableNodes []string `json:"unreachable_nodes,omitempty"`
}
