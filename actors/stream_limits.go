package actors

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// userStream is a session's place among those of its user. It is not changed.
type userStream struct {
	user, hash string
	maxStreams int
}

// streamLimits keeps the places of this node's sessions. It is safe for concurrent use.
type streamLimits struct {
	r       *Registry
	started chan *Session // began to play, or are due

	mu    sync.Mutex
	users map[string]*userStreams // by the user's hash
}

// userStreams are those of a user's sessions on this node. They are guarded by the limits' lock.
type userStreams struct {
	sessions map[*Session]bool
	// due are those of which the store is to be told next. telling: somebody is about it; one at a time, so that a user
	// of many sessions costs the store one call for all.
	due            map[*Session]bool
	renewInFlight  bool
	renewScheduled bool // they are to be looked at again soon
}

// maxRenewed bounds the sessions of one call, so that it takes the store a few milliseconds at most.
const maxRenewed = 128

func newStreamLimits(r *Registry) *streamLimits {
	return &streamLimits{r: r, started: make(chan *Session, 4096), users: map[string]*userStreams{}}
}

// streamOf is the place that a decision gives a session; nil if its user has no limit. Whoever shows nothing that tells
// him apart is nobody's user.
func (l *streamLimits) streamOf(f *backends.Request, d *backends.Decision) *userStream {
	most := l.r.options.Config.PerUser.limit(d)
	if most == 0 || f.Query == "" && len(f.Headers) == 0 {
		return nil
	}
	parts := []string{f.Backend}
	switch {
	case d.UserID != "":
		parts = append(parts, "id", d.UserID)
	case d.User != "":
		parts = append(parts, "name", d.User)
	default:
		parts = append(parts, "credentials", f.Query)
		for _, h := range f.Headers {
			parts = append(parts, h.Name, h.Value)
		}
	}
	user := strings.Join(parts, "\x00")
	return &userStream{user: user, hash: l.r.options.Cluster.UserHash(user), maxStreams: most}
}

func (s *Session) streamEntry(m *userStream, opened time.Time) session.StreamEntry {
	f := s.Request()
	return session.StreamEntry{
		User: m.user, Session: s.id, Opened: opened, LastSeen: s.LastSeen(), IsPlaying: s.isPlaying.Load(),
		Device: f.Device, Address: f.Address.String(), MaxStreams: m.maxStreams,
	}
}

// join asks for a place for a session whose viewer was allowed, if his user has a limit and it has none yet. Where nobody
// can say by the end of ctx, he has one: a limit is no reason to refuse a viewer in an outage.
func (l *streamLimits) join(ctx context.Context, s *Session, opened time.Time, d *backends.Decision) session.StreamState {
	m := l.streamOf(s.Request(), d)
	if had := s.stream.Load(); m == nil || had != nil && had.user == m.user {
		return session.StreamActive // its heartbeats say how it stands
	}
	got, err := l.r.options.Cluster.JoinStream(ctx, s.streamEntry(m, opened))
	if err != nil {
		return session.StreamActive
	}
	l.applyResult(m, got, s.id) //nolint:contextcheck // a session that is cut off is nobody's question
	return got.States[0]
}

// onDecision keeps track of a session that a decision gives a place, or takes it from.
func (l *streamLimits) onDecision(s *Session, d *backends.Decision) {
	if d.Verdict != backends.Allowed {
		m := s.stream.Load()
		l.remove(s)
		if m != nil && d.Source != backends.FromLimit {
			l.r.running.Go(func() {
				ctx, cancel := l.r.writing()
				defer cancel()
				_ = l.r.options.Cluster.LeaveStream(ctx, m.user, s.id) // it ends by itself otherwise
			})
		}
		return
	}
	if !d.Source.IsAuthoritative() {
		return // an outage takes no place from anybody
	}
	m, had := l.streamOf(s.Request(), d), s.stream.Load()
	switch {
	case m == nil:
		l.remove(s)
		return
	case had != nil && *had == *m:
		return
	case had != nil && had.hash != m.hash:
		l.remove(s)
	}
	s.stream.Store(m)
	l.mu.Lock()
	p := l.users[m.hash]
	if p == nil {
		p = &userStreams{sessions: map[*Session]bool{}, due: map[*Session]bool{}}
		l.users[m.hash] = p
	}
	p.sessions[s] = true
	l.mu.Unlock()
	// The store is told of it when it begins to play, and by its heartbeats.
	if s.isPlaying.Load() {
		l.queueRenewal(s)
	}
}

// remove drops a session that has gone from this node. Its place is kept for it by the store, for a while.
func (l *streamLimits) remove(s *Session) {
	m := s.stream.Swap(nil)
	if m == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.users[m.hash]; p != nil {
		delete(p.sessions, s)
		delete(p.due, s)
		l.dropEmpty(m.hash, p)
	}
}

// dropEmpty forgets a user of whom there is nothing to tell. It is called under the lock.
func (l *streamLimits) dropEmpty(hash string, p *userStreams) {
	if len(p.sessions) == 0 && !p.renewInFlight && !p.renewScheduled {
		delete(l.users, hash)
	}
}

// queueRenewal has the store told soon how a session stands. It neither blocks nor allocates: requests call it.
func (l *streamLimits) queueRenewal(s *Session) {
	select {
	case l.started <- s:
	default: // its next heartbeat says it
	}
}

// run tells the store how sessions stand, until the registry closes.
func (l *streamLimits) run() {
	for {
		select {
		case <-l.r.life.Done():
			return
		case s := <-l.started:
			if m := s.stream.Load(); m != nil {
				l.mu.Lock()
				l.markDue(m.hash, s)
				l.mu.Unlock()
			}
		}
	}
}

// markDue has the store told of sessions of a user, with others that are due by then. It is called under the lock.
func (l *streamLimits) markDue(hash string, due ...*Session) {
	p := l.users[hash]
	if p == nil {
		return
	}
	for _, s := range due {
		if p.sessions[s] {
			p.due[s] = true
		}
	}
	if len(p.due) > 0 && !p.renewInFlight {
		p.renewInFlight = l.r.background(func() { l.renewDue(hash, p) })
	}
}

// renewDue tells the store of a user's sessions until none is due.
func (l *streamLimits) renewDue(hash string, p *userStreams) {
	for {
		l.mu.Lock()
		var due []*Session
		for s := range p.due {
			if delete(p.due, s); !s.isClosed.Load() {
				due = append(due, s)
			}
			if len(due) == maxRenewed {
				break
			}
		}
		if len(due) == 0 || l.r.life.Err() != nil {
			p.renewInFlight = false
			l.dropEmpty(hash, p)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.renew(due)
	}
}

// renew keeps the places of sessions of one user.
func (l *streamLimits) renew(due []*Session) {
	var held []*Session
	var of []session.StreamEntry
	var user *userStream
	for _, s := range due {
		if m := s.stream.Load(); m != nil && (user == nil || m.user == user.user) {
			held, of, user = append(held, s), append(of, s.streamEntry(m, s.Ticket().Opened)), m
		}
	}
	if user == nil {
		return
	}
	ctx, cancel := context.WithTimeout(l.r.life, writeDeadline)
	defer cancel()
	got, err := l.r.options.Cluster.RenewStreams(ctx, of)
	if err != nil {
		return // they are held again with the next heartbeat
	}
	l.applyResult(user, got, backends.SessionID{})
	for i, s := range held {
		if v, lost := revocationOf(got.States[i]); lost {
			// It may have lost its place before this node had it: that is told once, to those who have it then.
			l.r.send(s, session.Revoked{Kind: v.Kind, Opened: of[i].Opened, Decision: v.Decision})
		}
	}
}

// revocationOf is what a standing revokes, if it does.
func revocationOf(s session.StreamState) (v session.Revocation, lost bool) {
	switch s {
	case session.StreamEvicted:
		return session.Revocation{Kind: session.RevokedEvicted, Decision: evictedDecision(&backends.Decision{})}, true
	case session.StreamSuperseded:
		return session.Revocation{Kind: session.RevokedSuperseded, Decision: supersededDecision()}, true
	default:
		return session.Revocation{}, false
	}
}

// applyResult carries out what the user's limit said. joining is a session that is not told, as it waits for the answer.
func (l *streamLimits) applyResult(m *userStream, got session.LimitResult, joining backends.SessionID) {
	for _, c := range got.Evicted {
		if c.Session != joining {
			l.r.evictStream(c)
		}
	}
	if got.RecheckIn <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.users[m.hash]; p != nil && !p.renewScheduled {
		p.renewScheduled = true
		time.AfterFunc(got.RecheckIn, func() {
			l.mu.Lock()
			p.renewScheduled = false
			l.mu.Unlock()
			l.renewAll(m.hash)
		})
	}
}

// renewAll has the store told at once how all sessions of a user stand.
func (l *streamLimits) renewAll(hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.users[hash]
	if p == nil {
		return
	}
	due := make([]*Session, 0, len(p.sessions))
	for s := range p.sessions {
		due = append(due, s)
	}
	l.markDue(hash, due...)
	l.dropEmpty(hash, p)
}

// evictStream tells all nodes that a session lost its place.
func (r *Registry) evictStream(c session.EvictedStream) {
	v, lost := revocationOf(c.State)
	if !lost {
		return
	}
	v.Session, v.Opened = c.Session, c.Opened
	ctx, cancel := r.writing()
	defer cancel()
	var err error
	if v.Kind == session.RevokedEvicted {
		err = r.options.Cluster.SetEvicted(ctx, c.Session, true)
	} else {
		err = r.options.Cluster.RevokeSession(ctx, c.Session, c.Opened, 0)
	}
	if err != nil {
		r.options.Logger.Warn("a session that lost its place could not be marked; it may come back on a node that does not hold it",
			slog.String("session", c.Session.String()), slog.Any("error", err))
	}
	if s := r.table.find(c.Session); s != nil {
		r.send(s, session.Revoked{Kind: v.Kind, Opened: v.Opened, Decision: v.Decision})
	}
	r.announce(v)
}

// evict marks a session that has no place.
func (r *Registry) evict(ctx context.Context, id backends.SessionID) {
	if err := r.options.Cluster.SetEvicted(context.WithoutCancel(ctx), id, true); err != nil {
		r.options.Logger.Debug("a session without a place could not be marked", slog.Any("error", err))
	}
}

// evictedDecision is what a viewer is told whose user watches as much as he may.
func evictedDecision(d *backends.Decision) backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromLimit, UserID: d.UserID, User: d.User,
		Reason: "the user watches as many streams as he may",
	}
}

func supersededDecision() backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromLimit, Reason: "the viewer is on another channel",
	}
}
