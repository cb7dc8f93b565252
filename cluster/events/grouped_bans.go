package events

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// maxGroupSize is how many viewers a group lists, so that its message is below 100 kB.
	maxGroupSize = 500
	// maxGroupedViewers bounds the viewers of all groups, some 300 bytes each: every node has all of them in memory.
	maxGroupedViewers = 500_000
)

// Viewer is who is refused when their session is kicked with many others.
type Viewer struct {
	Session backends.SessionID
	// Opened is when the session was opened, by the clock of the node that opened it.
	Opened time.Time
	// User is their id or name, Credentials what a ban of their credentials holds; each is empty if it is unknown.
	User, Credentials string
	// Backend and Channel are those of the session.
	Backend, Channel string
}

// isGroup reports whether a ban lists many viewers.
func isGroup(b *session.Ban) bool { return len(b.Sessions)+len(b.Users)+len(b.CredentialSets) > 0 }

// hasSubject reports whether a ban says whom it denies.
func hasSubject(b *session.Ban) bool {
	return b.User != "" || b.Credentials != "" || b.Prefix.IsValid() || !b.Session.IsZero() || isGroup(b)
}

// viewersOf counts the viewers of a group.
func viewersOf(b *session.Ban) int { return max(len(b.Sessions), len(b.Users), len(b.CredentialSets)) }

// HasRoom returns an error if there is no room for the groups of so many viewers on so many channels.
func (b *Bans) HasRoom(viewers, channels int) error {
	if there := int(b.groups.viewers.Load()); there+viewers > maxGroupedViewers {
		return fmt.Errorf("kick: too many viewers: kicks refuse %d already, and %d more are above the maximum of %d; wait until a"+
			" kick ends, or unban one", there, viewers, maxGroupedViewers)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if groups := channels + viewers/maxGroupSize; len(b.active)+groups > maxBans {
		return fmt.Errorf("kick: too many bans: there are %d already, and %d more are above the maximum of %d", len(b.active), groups, maxBans)
	}
	return nil
}

// Group returns the groups that refuse the viewers of a kick. They have its end and its reason, and its id is their cause.
func Group(kick session.Ban, viewers []Viewer) []session.Ban {
	open := make(map[banScope]*session.Ban) // the group of each backend and channel that has room
	listed := make(map[banScope]bool)       // users and credentials that are in a group, each by its own kind
	var groups []*session.Ban
	for _, v := range viewers {
		scope := banScope{backend: v.Backend, channel: v.Channel}
		g := open[scope]
		if g == nil || len(g.Sessions) >= maxGroupSize {
			g = &session.Ban{
				ID: kick.ID + "-" + NewID(), Cause: kick.ID, IsKick: true, Until: kick.Until, Reason: kick.Reason,
				Backend: v.Backend, Channel: v.Channel,
			}
			open[scope], groups = g, append(groups, g)
		}
		g.Sessions = append(g.Sessions, v.Session)
		g.Users = appendUnlisted(g.Users, v.User, banScope{"u" + v.User, v.Backend, v.Channel}, listed)
		g.CredentialSets = appendUnlisted(g.CredentialSets, v.Credentials, banScope{"c" + v.Credentials, v.Backend, v.Channel}, listed)
	}
	made := make([]session.Ban, len(groups))
	for i, g := range groups {
		made[i] = *g
	}
	return made
}

// appendUnlisted appends a value that is neither empty nor listed.
func appendUnlisted(list []string, value string, key banScope, listed map[banScope]bool) []string {
	if value == "" || listed[key] {
		return list
	}
	listed[key] = true
	return append(list, value)
}

// groupedBans find the ban of a viewer among the groups. They are apart from the other bans, since a kick adds many viewers
// at once. It is safe for concurrent use.
type groupedBans struct {
	// viewers counts those of all groups. It is read first, so that a node without groups takes no lock.
	viewers atomic.Int64

	mu    sync.RWMutex
	index groupIndex
}

// groupIndex has the ban of each viewer that ends last.
type groupIndex struct {
	sessions map[backends.SessionID]*session.Ban
	users    map[banScope]*session.Ban
	// credentials are keyed by one hash of each set, the one that the fewest sets have when the set is added.
	credentials map[string][]groupCredentials
	// credentialsIn are the backends and channels of these: the credentials of other viewers need no hashing.
	credentialsIn map[banScope]bool
}

// groupCredentials is a group with one of its sets of hashes, all of which a viewer must present.
type groupCredentials struct {
	set string
	ban *session.Ban
}

func newGroupIndex() groupIndex {
	return groupIndex{
		sessions: make(map[backends.SessionID]*session.Ban), users: make(map[banScope]*session.Ban),
		credentials: make(map[string][]groupCredentials), credentialsIn: make(map[banScope]bool),
	}
}

// add adds a group.
func (g *groupedBans) add(b session.Ban) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.index.sessions == nil {
		g.index = newGroupIndex()
	}
	g.index.add(&b)
	g.viewers.Add(int64(viewersOf(&b)))
}

// replace makes the groups among the bans all that there are. The caller adds none meanwhile.
func (g *groupedBans) replace(bans map[string]session.Ban) {
	index, viewers := newGroupIndex(), 0
	for _, b := range bans {
		if isGroup(&b) {
			index.add(&b)
			viewers += viewersOf(&b)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.index = index
	g.viewers.Store(int64(viewers))
}

// IsKicked reports whether a group of a kick lists a session.
func (b *Bans) IsKicked(kick string, id backends.SessionID) bool {
	g := &b.groups
	if g.viewers.Load() == 0 {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	group := g.index.sessions[id]
	return group != nil && group.Cause == kick
}

func (x *groupIndex) add(b *session.Ban) {
	for _, id := range b.Sessions {
		keepLonger(x.sessions, id, b)
	}
	for _, user := range b.Users {
		keepLonger(x.users, banScope{user, b.Backend, b.Channel}, b)
	}
	for _, set := range b.CredentialSets {
		x.credentialsIn[banScope{backend: b.Backend, channel: b.Channel}] = true
		rarest := slices.MinFunc(strings.Split(set, "."), func(a, b string) int { return len(x.credentials[a]) - len(x.credentials[b]) })
		x.credentials[rarest] = append(x.credentials[rarest], groupCredentials{set, b})
	}
}

func keepLonger[K comparable](index map[K]*session.Ban, key K, b *session.Ban) {
	if old := index[key]; old == nil || b.Until.After(old.Until) || b.Until.Equal(old.Until) && b.ID < old.ID {
		index[key] = b
	}
}

// match returns the ban of a viewer as one of that viewer alone; see [Bans.Match].
func (g *groupedBans) match(r *backends.Request, d *backends.Decision, hashes func() []string) (session.Ban, bool) {
	if g.viewers.Load() == 0 {
		return session.Ban{}, false
	}
	now := time.Now()
	g.mu.RLock()
	ban, isFound := g.index.matchNamed(r, d, now)
	mustHash := !isFound && g.index.credentialsIn[banScope{backend: r.Backend, channel: r.Channel}]
	g.mu.RUnlock()
	if !mustHash {
		return ban, isFound
	}
	presented := hashes() // without the lock, as it takes the longest
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.index.matchCredentials(r, presented, now)
}

// matchNamed returns the ban of a session or a user.
func (x *groupIndex) matchNamed(r *backends.Request, d *backends.Decision, now time.Time) (session.Ban, bool) {
	if b := x.sessions[r.Session]; b != nil && b.Until.After(now) {
		one := withoutViewers(b)
		one.Session = r.Session
		return one, true
	}
	if d == nil {
		return session.Ban{}, false
	}
	for _, user := range [...]string{d.UserID, d.User} {
		if b := x.users[banScope{user, r.Backend, r.Channel}]; b != nil && b.Until.After(now) {
			one := withoutViewers(b)
			one.User = user
			return one, true
		}
	}
	return session.Ban{}, false
}

// matchCredentials returns a ban one of whose sets of hashes is among those of the viewer.
func (x *groupIndex) matchCredentials(r *backends.Request, presented []string, now time.Time) (session.Ban, bool) {
	for _, hash := range presented {
		for _, c := range x.credentials[hash] {
			if c.ban.Backend == r.Backend && c.ban.Channel == r.Channel && c.ban.Until.After(now) && includesSet(presented, c.set) {
				one := withoutViewers(c.ban)
				one.Credentials = c.set
				return one, true
			}
		}
	}
	return session.Ban{}, false
}

// includesSet reports whether the hashes include all of a set.
func includesSet(hashes []string, set string) bool {
	for hash := range strings.SplitSeq(set, ".") {
		if !slices.Contains(hashes, hash) {
			return false
		}
	}
	return true
}

func withoutViewers(b *session.Ban) session.Ban {
	one := *b
	one.Sessions, one.Users, one.CredentialSets = nil, nil, nil
	return one
}
