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
	users userTable
	// due are the users with streams to renew, for whom a task of renewing will do it.
	due      []*userStreams
	renewing int // tasks
}

// streamFacts are what a decision says of a session's stream.
type streamFacts struct {
	// hash names the user, device the device where the route tells devices apart. Both are keyed hashes, by [Cluster.UserHash],
	// so that the store learns neither. A device's differs from user to user, so that nobody sees which users share one.
	hash, device string
	maxStreams   int32 // 0: the user has no limit
}

const (
	// maxRenewed bounds the streams of one call, so that the store needs a few milliseconds at most.
	maxRenewed = 128
	// maxRenewing bounds the users whose streams are renewed at once: enough to fill the store's pipelines. A store that is slow
	// makes the others wait, without a goroutine each.
	maxRenewing = 256
)

func newStreamLimits(c core, config PerUserConfig) *streamLimits {
	l := &streamLimits{core: c, renewal: make(chan *Session, maxRenewals), users: newUserTable()}
	l.config.Store(&config)
	return l
}

// streamOf returns the stream that a decision gives a session. A viewer without credentials belongs to no user.
func (l *streamLimits) streamOf(r *backends.Request, d *backends.Decision) streamFacts {
	limit := l.config.Load().limit(d)
	if limit == 0 || r.Credentials().IsEmpty() {
		return streamFacts{}
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
	u := streamFacts{hash: l.cluster.UserHash(user), maxStreams: int32(limit)}
	if r.Device != "" {
		u.device = l.cluster.UserHash("\x00device\x00" + user + "\x00" + r.Device)
	}
	return u
}

func (l *streamLimits) entry(u streamFacts, s *Session, opened time.Time) session.StreamEntry {
	return session.StreamEntry{
		User: u.hash, Session: s.id, Opened: opened, LastSeen: s.lastAsked(time.Now()), IsPlaying: s.flags.has(flagPlaying),
		ZapTimeout: l.zapTimeout(s), Device: u.device, MaxStreams: int(u.maxStreams),
		Group: s.request.Group(), IsIPv6: isIPv6(s.request.Address()),
	}
}

// zapTimeout returns the longest silence of a viewer who watches, or 0 if no media playlist told it. An edge with sessions of its own
// asks only when a decision expires. The others ask about each request, but Usher sees no playlist of theirs.
func (l *streamLimits) zapTimeout(s *Session) time.Duration {
	if d := s.Decision(); d != nil && s.request.HasEdgeReport() {
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
	u, isJoining := l.joining(s, r, d)
	if !isJoining {
		return session.StreamActive
	}
	return l.report(ctx, s, u, opened)
}

// joining returns the stream that the decision gives the session, and whether the session is to ask for it. If not, its user has no
// limit, or its renewals tell whether it is evicted.
func (l *streamLimits) joining(s *Session, r *backends.Request, d *backends.Decision) (u streamFacts, isJoining bool) {
	u = l.streamOf(r, d)
	return u, u.maxStreams > 0 && !u.isOf(s)
}

// isOf reports whether the session has a stream of that user.
func (u *streamFacts) isOf(s *Session) bool {
	current := s.stream.Load()
	return current != nil && current.user.hash == u.hash
}

// report asks the store for a stream that the session is to have, or whether the one that it has is evicted.
func (l *streamLimits) report(ctx context.Context, s *Session, u streamFacts, opened time.Time) session.StreamState {
	e := l.entry(u, s, opened)
	e.IsNew = !u.isOf(s)
	result := l.cluster.ReportStreams(ctx, e)
	l.applyResult(u.hash, result, s.id) //nolint:contextcheck // an eviction is no part of this opening
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
	case u.maxStreams == 0:
		l.remove(s)
		return
	case current != nil && current.facts() == u:
		return
	}
	l.set(s, u)
	// A session that does not play yet does not count. It is renewed when it begins to, and by its heartbeats from then on.
	if s.flags.has(flagPlaying) {
		l.queueRenewal(s)
	}
}

// set gives the session another stream than it has, or none. The store keeps the one before until that expires.
func (l *streamLimits) set(s *Session, u streamFacts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, after := s.stream.Load(), (*userStream)(nil)
	if u.maxStreams > 0 {
		streams := l.users.find(u.hash)
		if streams == nil {
			streams = &userStreams{hash: u.hash}
			l.users.add(streams)
			after = &streams.oldest
		} else {
			after = new(userStream)
		}
		*after = userStream{user: streams, session: s, device: u.device, maxStreams: u.maxStreams}
		streams.add(after)
	}
	s.stream.Store(after)
	if before != nil {
		before.user.remove(before)
		l.dropEmpty(before.user)
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
		l.cluster.ReportStreams(ctx, session.StreamEntry{User: u.user.hash, Session: s.id, IsLeaving: true})
	})
}

// remove forgets the stream of a session on this node.
func (l *streamLimits) remove(s *Session) {
	if s.stream.Load() != nil {
		l.set(s, streamFacts{})
	}
}

// dropEmpty forgets a user with nothing left to renew. The caller holds the lock.
func (l *streamLimits) dropEmpty(us *userStreams) {
	if us.first == nil && !us.renewInFlight && !us.renewScheduled {
		l.users.remove(us)
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
			l.mu.Lock()
			if u := s.stream.Load(); u != nil {
				l.markDue(u.user, u)
			}
			l.mu.Unlock()
		}
	}
}

// markDue has streams of one user renewed, with others that are due by then. The caller holds the lock.
func (l *streamLimits) markDue(us *userStreams, due ...*userStream) {
	for _, u := range due {
		us.setDue(u)
	}
	if len(due) == 0 || us.renewInFlight {
		return
	}
	us.renewInFlight = true
	l.due = append(l.due, us)
	if l.renewing < maxRenewing && l.life.tryRun(l.renewUsers) {
		l.renewing++
	}
}

// renewUsers renews users' streams until none are due.
func (l *streamLimits) renewUsers() {
	for {
		l.mu.Lock()
		if len(l.due) == 0 || l.life.isEnding() {
			l.due = nil // its memory is that of the longest queue
			l.renewing--
			l.mu.Unlock()
			return
		}
		us := l.due[0]
		l.due = l.due[1:]
		l.mu.Unlock()
		l.renewDue(us)
	}
}

// renewDue renews a user's streams until none is due.
func (l *streamLimits) renewDue(us *userStreams) {
	for {
		l.mu.Lock()
		batch := us.takeDue()
		if len(batch) == 0 || l.life.isEnding() {
			us.renewInFlight = false
			l.dropEmpty(us)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.renew(us.hash, batch)
	}
}

// renew renews streams of one user, and revokes the sessions that the store evicted.
func (l *streamLimits) renew(user string, streams []*userStream) {
	streams = slices.DeleteFunc(streams, func(u *userStream) bool { return u.session.stream.Load() != u }) // it has left meanwhile
	if len(streams) == 0 {
		return
	}
	entries := make([]session.StreamEntry, len(streams))
	for i, u := range streams {
		entries[i] = l.entry(u.facts(), u.session, u.session.Ticket().Opened)
	}
	ctx, cancel := context.WithTimeout(l.life.ctx, writeTimeout)
	defer cancel()
	result := l.cluster.ReportStreams(ctx, entries...)
	l.applyResult(user, result, backends.SessionID{})
	for i, u := range streams {
		if v, isRevoked := revocationOf(result.States[i]); isRevoked {
			// The store reports an eviction once, perhaps before this node had the session, or before it was opened anew and
			// lost its mark. Without that, other nodes would let it play until their own next report, and so on for ever.
			if v.Kind == session.RevokedEvicted {
				l.cluster.markEvicted(ctx, u.session.id)
			}
			l.send(u.session, session.Revoked{Kind: v.Kind, Opened: entries[i].Opened, Decision: v.Decision})
		}
	}
}

// applyResult carries out what the store said about a user's streams. The joining session, if any, is left out, because it waits for
// the result itself. Its viewer need not wait until others are evicted.
func (l *streamLimits) applyResult(user string, result session.LimitResult, joining backends.SessionID) {
	for _, e := range result.Evicted {
		switch {
		case joining.IsZero():
			l.evict(e, result.IsLocal)
		case e.Session != joining:
			l.evictLater(e, result.IsLocal)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	us := l.users.find(user)
	if us == nil {
		return
	}
	if us.isLocal = result.IsLocal; result.RecheckIn > 0 && !us.renewScheduled {
		us.renewScheduled = true
		time.AfterFunc(result.RecheckIn, func() {
			l.mu.Lock()
			us.renewScheduled = false
			l.mu.Unlock()
			l.renewAll(user)
		})
	}
}

// renewAll renews at once all streams of a user.
func (l *streamLimits) renewAll(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if us := l.users.find(user); us != nil {
		l.markDue(us, us.all()...)
		l.dropEmpty(us)
	}
}

// renewLocal renews the streams that the store has not counted, now that it is back: with the next heartbeat it might be too late
// for viewers whom the other nodes hold for silent. It does not block.
func (l *streamLimits) renewLocal() {
	l.life.tryRun(func() {
		l.mu.Lock()
		var local []string
		l.users.places.each(func(us *userStreams) bool {
			if us.isLocal {
				local = append(local, us.hash)
			}
			return true
		})
		l.mu.Unlock()
		for _, hash := range local {
			if l.renewAll(hash); !pause(l.life.ctx, reloadPause) {
				return
			}
		}
	})
}
