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
	users    map[banScope]session.Ban
	sessions map[backends.SessionID]session.Ban
	prefixes map[netip.Prefix]session.Ban
	// credentials are keyed by one hash of each ban, the one that the fewest bans have: many viewers present a
	// "format=hls".
	credentials map[string][]credentialsBan
	// credentialsIn are the backends and channels to which these are limited: the credentials of other viewers need no
	// hashing. The zero value means everywhere.
	credentialsIn map[banScope]bool
	// userScopes are the kinds of scope that bans of users have, so that a user is looked up once for each.
	userScopes []scopeKind
	// bits4 and bits6 are the lengths of the prefixes: an address is looked up once for each length, however many bans
	// there are.
	bits4, bits6 []int
}

// banScope is a user, and the backend and channel to which a ban is limited.
type banScope struct{ user, backend, channel string }

// scopeKind says to what a ban is limited.
type scopeKind struct{ hasBackend, hasChannel bool }

// credentialsBan is a ban with the hashes that a viewer must present all of.
type credentialsBan struct {
	hashes []string
	ban    session.Ban
}

// newBanIndex indexes bans. It returns nil if there are none. Of two bans on the same target the one that ends later
// counts.
func newBanIndex(bans map[string]session.Ban) *banIndex {
	if len(bans) == 0 {
		return nil
	}
	x := &banIndex{
		users:       make(map[banScope]session.Ban),
		credentials: make(map[string][]credentialsBan), credentialsIn: make(map[banScope]bool),
		sessions: make(map[backends.SessionID]session.Ban), prefixes: make(map[netip.Prefix]session.Ban),
	}
	var ofCredentials []credentialsBan
	for _, b := range bans {
		switch {
		case b.User != "":
			addLonger(x.users, banScope{b.User, b.Backend, b.Channel}, b)
			x.userScopes = appendNew(x.userScopes, scopeKind{b.Backend != "", b.Channel != ""})
		case b.Credentials != "":
			ofCredentials = append(ofCredentials, credentialsBan{strings.Split(b.Credentials, "."), b})
			x.credentialsIn[banScope{backend: b.Backend, channel: b.Channel}] = true
		case !b.Session.IsZero():
			addLonger(x.sessions, b.Session, b)
		case b.Prefix.IsValid():
			addLonger(x.prefixes, b.Prefix, b)
		}
	}
	x.addCredentials(ofCredentials)
	for p := range x.prefixes {
		if p.Addr().Is4() {
			x.bits4 = appendNew(x.bits4, p.Bits())
		} else {
			x.bits6 = appendNew(x.bits6, p.Bits())
		}
	}
	return x
}

func appendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// addCredentials indexes bans of credentials, each by its rarest hash.
func (x *banIndex) addCredentials(bans []credentialsBan) {
	count := make(map[string]int)
	for _, c := range bans {
		for _, hash := range c.hashes {
			count[hash]++
		}
	}
	for _, c := range bans {
		rarest := slices.MinFunc(c.hashes, func(a, b string) int { return count[a] - count[b] })
		x.credentials[rarest] = append(x.credentials[rarest], c)
	}
}

func addLonger[K comparable](index map[K]session.Ban, key K, b session.Ban) {
	if old, found := index[key]; !found || b.Until.After(old.Until) || b.Until.Equal(old.Until) && b.ID < old.ID {
		index[key] = b
	}
}

// match returns the ban of a viewer; see [Bans.Match].
func (x *banIndex) match(r *backends.Request, d *backends.Decision, hashes func() []string) (session.Ban, bool) {
	now := time.Now()
	if b, found := x.sessions[r.Session]; found && holds(&b, r, now) {
		return b, true
	}
	if b, found := x.matchAddress(r, now); found {
		return b, true
	}
	if b, found := x.matchUser(r, d, now); found {
		return b, true
	}
	if !x.bansCredentialsIn(r.Backend, r.Channel) {
		return session.Ban{}, false
	}
	return x.matchCredentials(r, hashes(), now)
}

// bansCredentialsIn reports whether credentials are banned of viewers of the backend and the channel.
func (x *banIndex) bansCredentialsIn(backend, channel string) bool {
	in := x.credentialsIn
	return in[banScope{}] || in[banScope{backend: backend}] || in[banScope{channel: channel}] ||
		in[banScope{backend: backend, channel: channel}]
}

// holds reports whether a ban that matches the viewer has not ended, and is not limited to other backends or channels.
func holds(b *session.Ban, r *backends.Request, now time.Time) bool {
	return b.Until.After(now) && (b.Backend == "" || b.Backend == r.Backend) && (b.Channel == "" || b.Channel == r.Channel)
}

func (x *banIndex) matchAddress(r *backends.Request, now time.Time) (session.Ban, bool) {
	a := r.Address.Unmap().WithZone("")
	bits := x.bits6
	if a.Is4() {
		bits = x.bits4
	}
	for _, n := range bits {
		p, err := a.Prefix(n)
		if err != nil {
			break // the request has no address
		}
		if b, found := x.prefixes[p]; found && holds(&b, r, now) {
			return b, true
		}
	}
	return session.Ban{}, false
}

func (x *banIndex) matchUser(r *backends.Request, d *backends.Decision, now time.Time) (session.Ban, bool) {
	if d == nil {
		return session.Ban{}, false
	}
	for _, kind := range x.userScopes {
		scope := banScope{}
		if kind.hasBackend {
			scope.backend = r.Backend
		}
		if kind.hasChannel {
			scope.channel = r.Channel
		}
		for _, scope.user = range [...]string{d.UserID, d.User} {
			if b := x.users[scope]; b.Until.After(now) { // no ban is one that has ended
				return b, true
			}
		}
	}
	return session.Ban{}, false
}

// matchCredentials returns a ban all of whose hashes are among those of the viewer.
func (x *banIndex) matchCredentials(r *backends.Request, hashes []string, now time.Time) (session.Ban, bool) {
	for _, hash := range hashes {
		for i := range x.credentials[hash] {
			c := &x.credentials[hash][i]
			isPresented := func(h string) bool { return slices.Contains(hashes, h) }
			if holds(&c.ban, r, now) && !slices.ContainsFunc(c.hashes, func(h string) bool { return !isPresented(h) }) {
				return c.ban, true
			}
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
