package cluster

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// banSet is all bans at one time, arranged for looking viewers up. It is not changed after it was made.
type banSet struct {
	users       map[string]session.Ban
	credentials map[string]session.Ban
	sessions    map[backends.SessionID]session.Ban
	prefixes    map[netip.Prefix]session.Ban
	// bits4 and bits6 are the lengths that prefixes have: an address is looked up once for each, however many bans there are.
	bits4, bits6 []int
}

// newBanSet arranges bans; nil if there are none. Of two on the same the one that ends later counts.
func newBanSet(bans map[string]session.Ban) *banSet {
	if len(bans) == 0 {
		return nil
	}
	s := &banSet{
		users: make(map[string]session.Ban), credentials: make(map[string]session.Ban),
		sessions: make(map[backends.SessionID]session.Ban), prefixes: make(map[netip.Prefix]session.Ban),
	}
	for _, b := range bans {
		switch {
		case b.User != "":
			later(s.users, b.User, b)
		case b.Credentials != "":
			later(s.credentials, b.Credentials, b)
		case !b.Session.IsZero():
			later(s.sessions, b.Session, b)
		case b.Prefix.IsValid():
			later(s.prefixes, b.Prefix, b)
		}
	}
	for p := range s.prefixes {
		bits := &s.bits6
		if p.Addr().Is4() {
			bits = &s.bits4
		}
		if !slices.Contains(*bits, p.Bits()) {
			*bits = append(*bits, p.Bits())
		}
	}
	return s
}

func later[K comparable](in map[K]session.Ban, key K, b session.Ban) {
	if old, found := in[key]; !found || b.Until.After(old.Until) || b.Until.Equal(old.Until) && b.ID < old.ID {
		in[key] = b
	}
}

// match finds the ban that a viewer is under at now. d may be nil. hashes are those of his credentials under all keys.
func (s *banSet) match(r *backends.Request, d *backends.Decision, hashes func() []string, now time.Time) (session.Ban, bool) {
	if b, found := s.sessions[r.Session]; found && b.Until.After(now) {
		return b, true
	}
	if b, found := s.address(r.Address, now); found {
		return b, true
	}
	if b, found := s.user(d, now); found {
		return b, true
	}
	if len(s.credentials) == 0 {
		return session.Ban{}, false
	}
	for _, hash := range hashes() {
		if b, found := s.credentials[hash]; found && b.Until.After(now) {
			return b, true
		}
	}
	return session.Ban{}, false
}

func (s *banSet) address(a netip.Addr, now time.Time) (session.Ban, bool) {
	a = a.Unmap().WithZone("")
	bits := s.bits6
	if a.Is4() {
		bits = s.bits4
	}
	for _, n := range bits {
		p, err := a.Prefix(n)
		if err != nil {
			break // no address
		}
		if b, found := s.prefixes[p]; found && b.Until.After(now) {
			return b, true
		}
	}
	return session.Ban{}, false
}

func (s *banSet) user(d *backends.Decision, now time.Time) (session.Ban, bool) {
	if d == nil || len(s.users) == 0 {
		return session.Ban{}, false
	}
	for _, name := range [...]string{d.UserID, d.User} {
		if b, found := s.users[name]; found && name != "" && b.Until.After(now) {
			return b, true
		}
	}
	return session.Ban{}, false
}

// sortBans puts the bans that end last first.
func sortBans(bans []session.Ban) {
	slices.SortFunc(bans, func(a, b session.Ban) int {
		if c := b.Until.Compare(a.Until); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}
