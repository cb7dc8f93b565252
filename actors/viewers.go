package actors

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// viewerCount counts the viewers whose decision is allowed, for backends that ask for it. Its zero value counts none. It is
// safe for concurrent use.
type viewerCount struct {
	mu        sync.Mutex
	byChannel map[string]int
	total     int
}

// add counts a viewer of the channel, or removes one.
func (c *viewerCount) add(channel string, isWatching bool) {
	delta := -1
	if isWatching {
		delta = 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byChannel == nil {
		c.byChannel = make(map[string]int)
	}
	c.total += delta
	if c.byChannel[channel] += delta; c.byChannel[channel] == 0 {
		delete(c.byChannel, channel) // viewers choose channel names, so empty ones must not stay
	}
}

// count returns the viewers of the channel, and of all channels.
func (c *viewerCount) count(channel string) (ofChannel, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byChannel[channel], c.total
}

// decisionCache lets sessions share equal decisions. Where a backend names no users, those of a million sessions are a few values,
// which stay in the processor's caches. A decision of one user costs a hash, and takes the place of another. It is safe for
// concurrent use.
type decisionCache struct {
	seed   maphash.Seed
	recent [64]atomic.Pointer[backends.Decision]
}

func newDecisionCache() *decisionCache { return &decisionCache{seed: maphash.MakeSeed()} }

// share returns the decision, or an equal one that another session has. Neither is changed from now on.
func (c *decisionCache) share(d *backends.Decision) *backends.Decision {
	at := &c.recent[maphash.Comparable(c.seed, *d)%uint64(len(c.recent))]
	if known := at.Load(); known != nil && *known == *d {
		return known
	}
	at.Store(d)
	return d
}

const (
	// maxUserAddresses is the most addresses at which the viewers of one user are at once without an alarm.
	maxUserAddresses = 200
	// userScanInterval is the least time between two passes over all sessions.
	userScanInterval = 30 * time.Second
	// userCells bounds the memory of userSpread to 256 kB, however many users there are. With a million users some twenty
	// share a cell.
	userCells = 1 << 16
)

// userSpread finds users whose viewers are at very many addresses at once: the backend names many viewers alike, or an
// account is shared. It counts the sessions of each cell of users, and looks at sessions one by one only where a cell has
// more than one user may have addresses. It is safe for concurrent use.
type userSpread struct {
	core
	report func(backend, user string, addresses int)
	seed   maphash.Seed
	cells  []atomic.Int32

	mu sync.Mutex
	// isScheduled: a pass is about to be made. lastScan is when the last one began.
	isScheduled bool
	lastScan    time.Time
}

func newUserSpread(c core, report func(backend, user string, addresses int)) *userSpread {
	return &userSpread{core: c, report: report, seed: maphash.MakeSeed(), cells: make([]atomic.Int32, userCells)}
}

// userKey is a user as a backend names them: by id, or by name if it gives none.
type userKey struct{ backend, user string }

// add counts the session for its user, and no longer for the one before. The session's actor calls it with each decision;
// nil: the session ends.
func (u *userSpread) add(s *Session, d *backends.Decision) {
	cell := uint32(0)
	if d != nil && d.Verdict == backends.Allowed && (d.UserID != "" || d.User != "") {
		cell = 1 + uint32(maphash.Comparable(u.seed, userKey{s.backend.Load().name, cmp.Or(d.UserID, d.User)})%userCells)
	}
	before := s.userCell.Swap(cell)
	if before == cell {
		return
	}
	if before != 0 {
		u.cells[before-1].Add(-1)
	}
	if cell != 0 && u.cells[cell-1].Add(1) > maxUserAddresses {
		u.schedule()
	}
}

// schedule has a pass made now, or as soon as the interval is over.
func (u *userSpread) schedule() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.isScheduled {
		return
	}
	u.isScheduled = true
	time.AfterFunc(max(0, userScanInterval-time.Since(u.lastScan)), func() { u.life.tryRun(u.scan) })
}

// scan reports the users of full cells whose viewers are at too many addresses. While there are such it scans again.
func (u *userSpread) scan() {
	u.mu.Lock()
	u.isScheduled, u.lastScan = false, time.Now()
	u.mu.Unlock()
	addresses := make(map[userKey]map[netip.Prefix]struct{})
	u.table.each(func(s *Session) bool {
		cell, d := s.userCell.Load(), s.Decision()
		if cell == 0 || d == nil || u.cells[cell-1].Load() <= maxUserAddresses {
			return !u.life.isEnding()
		}
		key := userKey{s.backend.Load().name, cmp.Or(d.UserID, d.User)}
		if addresses[key] == nil {
			addresses[key] = make(map[netip.Prefix]struct{})
		}
		if len(addresses[key]) <= maxUserAddresses {
			addresses[key][backends.SubscriberPrefix(s.request.Address())] = struct{}{}
		}
		return !u.life.isEnding()
	})
	for key, at := range addresses {
		if len(at) > maxUserAddresses {
			u.report(key.backend, key.user, maxUserAddresses)
			u.schedule()
		}
	}
}

// userStream is a session's stream among those of its user. Its first fields are not changed, the others are guarded by the lock
// of streamLimits.
type userStream struct {
	user       *userStreams
	session    *Session
	device     string
	maxStreams int32

	isDue      bool // it is to be renewed
	prev, next *userStream
}

// facts returns what the stream was made of.
func (u *userStream) facts() streamFacts { return streamFacts{u.user.hash, u.device, u.maxStreams} }

// userStreams are the streams of one user on this node, guarded by the lock of streamLimits: a ring, so that a user with one takes
// little memory and one with thousands no search.
type userStreams struct {
	hash  string
	first *userStream // those that are due come first; nil: there are none
	// renewInFlight: a task renews what is due, or will. There is one call per user at a time, so that a user with many sessions
	// costs the store one for all of them.
	renewInFlight bool
	// renewScheduled: a timer renews all streams of the user soon.
	renewScheduled bool
	// isLocal: the store did not count the last report, so that other nodes may hold the streams for silent soon.
	isLocal bool
	place   uint32 // in the table; 0: none
	// oldest is the stream that they began with, so that a user with one takes one object. It is used once.
	oldest userStream
}

// userTable finds the streams of users by their hashes. The collector finds them by their places, as it does sessions; see sessionTable.
// It is guarded by the lock of streamLimits.
type userTable struct {
	seed    maphash.Seed
	numbers map[uint64]uint32 // places, by hashes of the users' hashes. Of two users that have the same, the first one is not found.
	places  places[userStreams]
}

func newUserTable() userTable {
	return userTable{seed: maphash.MakeSeed(), numbers: make(map[uint64]uint32)}
}

// find returns the user's streams, or nil if there are none.
func (t *userTable) find(hash string) *userStreams {
	place, isKnown := t.numbers[maphash.String(t.seed, hash)]
	if !isKnown {
		return nil
	}
	if us := t.places.at(place); us != nil && us.hash == hash {
		return us
	}
	return nil
}

// add adds a user whom find does not find.
func (t *userTable) add(us *userStreams) {
	us.place = t.places.take(us)
	t.numbers[maphash.String(t.seed, us.hash)] = us.place
}

// remove removes a user, who may have been removed before.
func (t *userTable) remove(us *userStreams) {
	if us.place == 0 {
		return
	}
	if number := maphash.String(t.seed, us.hash); t.numbers[number] == us.place {
		delete(t.numbers, number)
	}
	t.places.leave(us.place)
	us.place = 0
}

// add adds a stream as the last one.
func (us *userStreams) add(u *userStream) {
	u.prev, u.next = u, u
	if us.first == nil {
		us.first = u
		return
	}
	u.prev, u.next = us.first.prev, us.first
	u.prev.next, u.next.prev = u, u
}

// remove removes a stream of the user.
func (us *userStreams) remove(u *userStream) {
	u.prev.next, u.next.prev = u.next, u.prev
	switch {
	case u.next == u:
		us.first = nil
	case us.first == u:
		us.first = u.next
	}
}

// setDue has a stream renewed with the next ones.
func (us *userStreams) setDue(u *userStream) {
	if u.isDue {
		return
	}
	us.remove(u)
	us.add(u)
	us.first, u.isDue = u, true
}

// all returns the user's streams.
func (us *userStreams) all() (all []*userStream) {
	for u := us.first; u != nil; u = u.next {
		if all = append(all, u); u.next == us.first {
			break
		}
	}
	return all
}

// takeDue returns up to maxRenewed streams that are due, of sessions that live, and moves them behind the others.
func (us *userStreams) takeDue() (batch []*userStream) {
	for len(batch) < maxRenewed && us.first != nil && us.first.isDue {
		u := us.first
		u.isDue, us.first = false, u.next
		if !u.session.flags.has(flagClosed) {
			batch = append(batch, u)
		}
	}
	return batch
}
