package actors

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/actors/smallset"
	"usher/backends"
)

// streamLimits keeps the streams of this node's sessions counted in the store. It is safe for concurrent use.
type streamLimits struct {
	core
	config  atomic.Pointer[PerUserConfig]
	renewal chan *Session // sessions whose stream is to be renewed
	// renewalsSkipped is how many sessions had no room there.
	renewalsSkipped atomic.Uint64

	mu    sync.Mutex
	users map[string]*userStreams // by the user's hash
	// due are the users with streams to renew, for whom a task of renewing will do it.
	due      []dueUser
	renewing int // tasks
}

// dueUser is a user with streams to renew.
type dueUser struct {
	hash    string
	streams *userStreams
}

// userStream is a session's stream among those of its user. It is not changed.
type userStream struct {
	// hash names the user, device the device where the route tells devices apart. Both are keyed hashes, by [Cluster.UserHash],
	// so that the store learns neither. A device's differs from user to user, so that nobody sees which users share one.
	hash, device string
	maxStreams   int
}

// userStreams are the streams of one user on this node, guarded by the lock of streamLimits.
type userStreams struct {
	sessions smallset.Set[*Session]
	// due holds the sessions to renew next.
	due smallset.Set[*Session]
	// renewInFlight: a task renews what is due, or will. There is one call per user at a time, so that a user with many sessions
	// costs the store one for all of them.
	renewInFlight bool
	// renewScheduled: a timer renews all streams of the user soon.
	renewScheduled bool
	// isLocal: the store did not count the last report, so that other nodes may hold the streams for silent soon.
	isLocal bool
}

const (
	// maxRenewed bounds the streams of one call, so that the store needs a few milliseconds at most.
	maxRenewed = 128
	// maxRenewing bounds the users whose streams are renewed at once: enough to fill the store's pipelines. A store that is slow
	// makes the others wait, without a goroutine each.
	maxRenewing = 256
)

func newStreamLimits(c core, config PerUserConfig) *streamLimits {
	l := &streamLimits{core: c, renewal: make(chan *Session, maxRenewals), users: map[string]*userStreams{}}
	l.config.Store(&config)
	return l
}

// streamOf returns the stream that a decision gives a session, or nil if its user has no limit. A viewer without
// credentials belongs to no user.
func (l *streamLimits) streamOf(r *backends.Request, d *backends.Decision) *userStream {
	limit := l.config.Load().limit(d)
	if limit == 0 || r.Credentials().IsEmpty() {
		return nil
	}
	parts := []string{r.Backend}
	switch {
	case d.UserID != "":
		parts = append(parts, "id", d.UserID)
	case d.User != "":
		parts = append(parts, "name", d.User)
	default:
		parts = append(parts, "credentials", string(r.Credentials().AppendCanonical(nil)))
	}
	user := strings.Join(parts, "\x00")
	u := &userStream{hash: l.cluster.UserHash(user), maxStreams: limit}
	if r.Device != "" {
		u.device = l.cluster.UserHash("\x00device\x00" + user + "\x00" + r.Device)
	}
	return u
}

func (l *streamLimits) entry(u *userStream, s *Session, opened time.Time) session.StreamEntry {
	return session.StreamEntry{
		User: u.hash, Session: s.id, Opened: opened, LastSeen: s.lastAsked(time.Now()), IsPlaying: s.flags.has(flagPlaying),
		ZapTimeout: l.zapTimeout(s), Device: u.device, MaxStreams: u.maxStreams,
		Group: s.request.Group(), IsIPv6: isIPv6(s.request.Address()),
	}
}

// zapTimeout returns the longest silence of a viewer who watches, or 0 if no media playlist told it. An edge asks only when
// a decision expires.
func (l *streamLimits) zapTimeout(s *Session) time.Duration {
	if d := s.Decision(); d != nil && s.extraLifetime > 0 {
		return s.policy().Clamped(d.ValidFor) + s.extraTime()
	}
	return cmp.Or(l.config.Load().ZapTimeout, zapTimeoutOf(s.TargetDuration()))
}

// isSilent reports whether nothing is left to say of the stream: its viewer has been silent for so long that it had stopped to count
// for that time before. By then the store was told so, or holds no place for it any more.
func (l *streamLimits) isSilent(s *Session, before time.Duration) bool {
	now := time.Now()
	return now.Sub(s.lastAsked(now)) > cmp.Or(l.zapTimeout(s), minVODZapTimeout)+before
}

// join asks the store for a stream for an allowed session, if its user has a limit and it has no stream yet. If the store
// does not answer before the end of ctx, what this node knows decides: an outage refuses none but an evicted stream.
func (l *streamLimits) join(
	ctx context.Context, s *Session, r *backends.Request, opened time.Time, d *backends.Decision,
) session.StreamState {
	u := l.streamOf(r, d)
	if current := s.stream.Load(); u == nil || current != nil && current.hash == u.hash {
		return session.StreamActive // its renewals tell whether it is evicted
	}
	e := l.entry(u, s, opened)
	e.IsNew = true
	result := l.cluster.ReportStreams(ctx, e)
	l.applyResult(u, result, s.id) //nolint:contextcheck // an eviction is no part of this opening
	return result.States[0]
}

// onDecision adds or removes the session's stream as the decision demands.
func (l *streamLimits) onDecision(s *Session, r *backends.Request, d *backends.Decision) {
	if d.Verdict != backends.Allowed {
		l.leave(s, d)
		return
	}
	if isUncounted := s.ticketUse.isSibling() && s.stream.Load() == nil; !d.Source.IsAuthoritative() && !isUncounted {
		return // an outage ends no stream
	}
	u, current := l.streamOf(r, d), s.stream.Load()
	switch {
	case u == nil:
		l.remove(s)
		return
	case current != nil && *current == *u:
		return
	case current != nil && current.hash != u.hash:
		l.remove(s)
	}
	s.stream.Store(u)
	l.mu.Lock()
	streams := l.users[u.hash]
	if streams == nil {
		streams = new(userStreams)
		l.users[u.hash] = streams
	}
	streams.sessions.Add(s)
	l.mu.Unlock()
	// A session that does not play yet does not count. It is renewed when it begins to, and by its heartbeats from then on.
	if s.flags.has(flagPlaying) {
		l.queueRenewal(s)
	}
}

// leave removes the stream of a denied session, also from the store unless its limit evicted it.
func (l *streamLimits) leave(s *Session, d *backends.Decision) {
	u := s.stream.Load()
	l.remove(s)
	if u == nil || d.Source == backends.FromLimit {
		return
	}
	l.life.run(func() {
		ctx, cancel := l.cluster.writeContext()
		defer cancel()
		l.cluster.ReportStreams(ctx, session.StreamEntry{User: u.hash, Session: s.id, IsLeaving: true})
	})
}

// remove forgets the stream of a session on this node. The store keeps it until it expires.
func (l *streamLimits) remove(s *Session) {
	u := s.stream.Swap(nil)
	if u == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if streams := l.users[u.hash]; streams != nil {
		streams.sessions.Remove(s)
		streams.due.Remove(s)
		l.dropEmpty(u.hash, streams)
	}
}

// dropEmpty forgets a user with nothing left to renew. The caller holds the lock.
func (l *streamLimits) dropEmpty(hash string, streams *userStreams) {
	if streams.sessions.Len() == 0 && !streams.renewInFlight && !streams.renewScheduled {
		delete(l.users, hash)
	}
}

// queueRenewal has the session's stream renewed soon. It neither blocks nor allocates: requests call it.
func (l *streamLimits) queueRenewal(s *Session) {
	select {
	case l.renewal <- s:
	default: // the next heartbeat queues it again
		l.renewalsSkipped.Add(1)
	}
}

// run renews queued streams until the registry closes.
func (l *streamLimits) run() {
	for {
		select {
		case <-l.life.ctx.Done():
			return
		case s := <-l.renewal:
			if u := s.stream.Load(); u != nil {
				l.mu.Lock()
				l.markDue(u.hash, s)
				l.mu.Unlock()
			}
		}
	}
}

// markDue has streams of one user renewed, with others that are due by then. The caller holds the lock.
func (l *streamLimits) markDue(hash string, sessions ...*Session) {
	streams := l.users[hash]
	if streams == nil {
		return
	}
	for _, s := range sessions {
		if streams.sessions.Has(s) {
			streams.due.Add(s)
		}
	}
	if streams.due.Len() == 0 || streams.renewInFlight {
		return
	}
	streams.renewInFlight = true
	l.due = append(l.due, dueUser{hash, streams})
	if l.renewing < maxRenewing && l.life.tryRun(l.renewUsers) {
		l.renewing++
	}
}

// renewUsers renews users' streams until none are due.
func (l *streamLimits) renewUsers() {
	for {
		l.mu.Lock()
		if len(l.due) == 0 || l.life.isEnding() {
			l.renewing--
			l.mu.Unlock()
			return
		}
		u := l.due[0]
		l.due = l.due[1:]
		l.mu.Unlock()
		l.renewDue(u.hash, u.streams)
	}
}

// renewDue renews a user's streams until none is due.
func (l *streamLimits) renewDue(hash string, streams *userStreams) {
	for {
		l.mu.Lock()
		batch := streams.takeDue()
		if len(batch) == 0 || l.life.isEnding() {
			streams.renewInFlight = false
			l.dropEmpty(hash, streams)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.renew(batch)
	}
}

// takeDue removes up to maxRenewed due sessions, and returns those that are live.
func (us *userStreams) takeDue() (batch []*Session) {
	for s := range us.due.All() {
		if us.due.Remove(s); !s.flags.has(flagClosed) {
			batch = append(batch, s)
		}
		if len(batch) == maxRenewed {
			break
		}
	}
	return batch
}

// renew renews the streams of sessions of one user, and revokes the sessions that the store evicted.
func (l *streamLimits) renew(sessions []*Session) {
	var renewed []*Session
	var entries []session.StreamEntry
	var first *userStream
	for _, s := range sessions {
		if u := s.stream.Load(); u != nil && (first == nil || u.hash == first.hash) {
			renewed, entries, first = append(renewed, s), append(entries, l.entry(u, s, s.Ticket().Opened)), u
		}
	}
	if first == nil {
		return
	}
	ctx, cancel := context.WithTimeout(l.life.ctx, writeTimeout)
	defer cancel()
	result := l.cluster.ReportStreams(ctx, entries...)
	l.applyResult(first, result, backends.SessionID{})
	for i, s := range renewed {
		if v, isRevoked := revocationOf(result.States[i]); isRevoked {
			// The store reports an eviction once, perhaps before this node had the session, or before it was opened anew and
			// lost its mark. Without that, other nodes would let it play until their own next report, and so on for ever.
			if v.Kind == session.RevokedEvicted {
				l.cluster.markEvicted(ctx, s.id)
			}
			l.send(s, session.Revoked{Kind: v.Kind, Opened: entries[i].Opened, Decision: v.Decision})
		}
	}
}

// applyResult carries out what the store said about a user's streams. The joining session is left out, because it waits for
// the result itself.
func (l *streamLimits) applyResult(u *userStream, result session.LimitResult, joining backends.SessionID) {
	for _, e := range result.Evicted {
		if e.Session != joining {
			l.evict(e, result.IsLocal)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	streams := l.users[u.hash]
	if streams == nil {
		return
	}
	if streams.isLocal = result.IsLocal; result.RecheckIn > 0 && !streams.renewScheduled {
		streams.renewScheduled = true
		time.AfterFunc(result.RecheckIn, func() {
			l.mu.Lock()
			streams.renewScheduled = false
			l.mu.Unlock()
			l.renewAll(u.hash)
		})
	}
}

// renewAll renews at once all streams of a user.
func (l *streamLimits) renewAll(hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	streams := l.users[hash]
	if streams == nil {
		return
	}
	l.markDue(hash, slices.Collect(streams.sessions.All())...)
	l.dropEmpty(hash, streams)
}

// renewLocal renews the streams that the store has not counted, now that it is back: with the next heartbeat it might be too late
// for viewers whom the other nodes hold for silent. It does not block.
func (l *streamLimits) renewLocal() {
	l.life.tryRun(func() {
		l.mu.Lock()
		var local []string
		for hash, streams := range l.users {
			if streams.isLocal {
				local = append(local, hash)
			}
		}
		l.mu.Unlock()
		for _, hash := range local {
			if l.renewAll(hash); !pause(l.life.ctx, reloadPause) {
				return
			}
		}
	})
}
