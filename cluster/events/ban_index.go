package events

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// banIndex finds the ban of a viewer. It is immutable.
type banIndex struct {
	users       map[string]session.Ban
	credentials map[string]session.Ban
	sessions    map[backends.SessionID]session.Ban
	prefixes    map[netip.Prefix]session.Ban
	// bits4 and bits6 are the lengths of the prefixes: an address is looked up once for each length, however many bans
	// there are.
	bits4, bits6 []int
}

// newBanIndex indexes bans. It returns nil if there are none. Of two bans on the same target the one that ends later
// counts.
func newBanIndex(bans map[string]session.Ban) *banIndex {
	if len(bans) == 0 {
		return nil
	}
	x := &banIndex{
		users: make(map[string]session.Ban), credentials: make(map[string]session.Ban),
		sessions: make(map[backends.SessionID]session.Ban), prefixes: make(map[netip.Prefix]session.Ban),
	}
	for _, b := range bans {
		switch {
		case b.User != "":
			addLonger(x.users, b.User, b)
		case b.Credentials != "":
			addLonger(x.credentials, b.Credentials, b)
		case !b.Session.IsZero():
			addLonger(x.sessions, b.Session, b)
		case b.Prefix.IsValid():
			addLonger(x.prefixes, b.Prefix, b)
		}
	}
	for p := range x.prefixes {
		bits := &x.bits6
		if p.Addr().Is4() {
			bits = &x.bits4
		}
		if !slices.Contains(*bits, p.Bits()) {
			*bits = append(*bits, p.Bits())
		}
	}
	return x
}

func addLonger[K comparable](index map[K]session.Ban, key K, b session.Ban) {
	if old, found := index[key]; !found || b.Until.After(old.Until) || b.Until.Equal(old.Until) && b.ID < old.ID {
		index[key] = b
	}
}

// match returns the ban of a viewer; see [Bans.Match].
func (x *banIndex) match(r *backends.Request, d *backends.Decision, hashes func() []string) (session.Ban, bool) {
	now := time.Now()
	if b, found := x.sessions[r.Session]; found && b.Until.After(now) {
		return b, true
	}
	if b, found := x.matchAddress(r.Address, now); found {
		return b, true
	}
	if b, found := x.matchUser(d, now); found {
		return b, true
	}
	if len(x.credentials) == 0 {
		return session.Ban{}, false
	}
	for _, hash := range hashes() {
		if b, found := x.credentials[hash]; found && b.Until.After(now) {
			return b, true
		}
	}
	return session.Ban{}, false
}

func (x *banIndex) matchAddress(a netip.Addr, now time.Time) (session.Ban, bool) {
	a = a.Unmap().WithZone("")
	bits := x.bits6
	if a.Is4() {
		bits = x.bits4
	}
	for _, n := range bits {
		p, err := a.Prefix(n)
		if err != nil {
			break // the request has no address
		}
		if b, found := x.prefixes[p]; found && b.Until.After(now) {
			return b, true
		}
	}
	return session.Ban{}, false
}

func (x *banIndex) matchUser(d *backends.Decision, now time.Time) (session.Ban, bool) {
	if d == nil || len(x.users) == 0 {
		return session.Ban{}, false
	}
	for _, name := range [...]string{d.UserID, d.User} {
		if b, found := x.users[name]; found && name != "" && b.Until.After(now) {
			return b, true
		}
	}
	return session.Ban{}, false
}

// sortBans sorts the bans that end last first.
func sortBans(bans []session.Ban) {
	slices.SortFunc(bans, func(a, b session.Ban) int {
		if c := b.Until.Compare(a.Until); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}
