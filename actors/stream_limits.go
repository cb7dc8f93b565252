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

// member is a session's place among those of its user. It is not changed.
type member struct {
	user, hash string
	max        int
}

// limits keeps the places of this node's sessions. It is safe for concurrent use.
type limits struct {
	r     *Registry
	begun chan *Session // began to play, or are due

	mu    sync.Mutex
	users map[string]*places // by the user's hash
}

// places are those of a user's sessions on this node. They are guarded by the limits' lock.
type places struct {
	sessions map[*Session]bool
	// due are those of which the store is to be told next. telling: somebody is about it; one at a time, so that a user
	// of many sessions costs the store one call for all.
	due     map[*Session]bool
	telling bool
	again   bool // they are to be looked at again soon
}

// toldAtOnce bounds the sessions of one call, so that it takes the store a few milliseconds at most.
const toldAtOnce = 128

func newLimits(r *Registry) *limits {
	return &limits{r: r, begun: make(chan *Session, 4096), users: map[string]*places{}}
}

// memberOf is the place that a decision gives a session; nil if its user has no limit. Whoever shows nothing that tells
// him apart is nobody's user.
func (l *limits) memberOf(f *backends.Request, d *backends.Decision) *member {
	most := l.r.o.Config.PerUser.limit(d)
	if most == 0 || f.Credentials().IsEmpty() {
		return nil
	}
	parts := []string{f.Backend}
	switch {
	case d.UserID != "":
		parts = append(parts, "id", d.UserID)
	case d.User != "":
		parts = append(parts, "name", d.User)
	default:
		parts = append(parts, "credentials", string(f.Credentials().AppendCanonical(nil)))
	}
	user := strings.Join(parts, "\x00")
	return &member{user: user, hash: l.r.o.Cluster.UserHash(user), max: most}
}

func (s *Session) membership(m *member, opened time.Time) session.StreamEntry {
	f := s.Request()
	return session.StreamEntry{
		User: m.user, Session: s.id, Opened: opened, LastSeen: s.LastSeen(), IsPlaying: s.counted.Load(),
		Device: f.Device, Address: f.Address.String(), MaxStreams: m.max,
	}
}

// join asks for a place for a session whose viewer was allowed, if his user has a limit and it has none yet. Where nobody
// can say by the end of ctx, he has one: a limit is no reason to refuse a viewer in an outage.
func (l *limits) join(ctx context.Context, s *Session, opened time.Time, d *backends.Decision) session.StreamState {
	m := l.memberOf(s.Request(), d)
	if had := s.member.Load(); m == nil || had != nil && had.user == m.user {
		return session.StreamActive // its heartbeats say how it stands
	}
	got, err := l.r.o.Cluster.JoinStream(ctx, s.membership(m, opened))
	if err != nil {
		return session.StreamActive
	}
	l.tell(m, got, s.id) //nolint:contextcheck // a session that is cut off is nobody's question
	return got.States[0]
}

// note keeps track of a session that a decision gives a place, or takes it from.
func (l *limits) note(s *Session, d *backends.Decision) {
	if d.Verdict != backends.Allowed {
		m := s.member.Load()
		l.forget(s)
		if m != nil && d.Source != backends.FromLimit {
			l.r.running.Go(func() {
				ctx, cancel := l.r.writing()
				defer cancel()
				_ = l.r.o.Cluster.LeaveStream(ctx, m.user, s.id) // it ends by itself otherwise
			})
		}
		return
	}
	if !d.Source.IsAuthoritative() {
		return // an outage takes no place from anybody
	}
	m, had := l.memberOf(s.Request(), d), s.member.Load()
	switch {
	case m == nil:
		l.forget(s)
		return
	case had != nil && *had == *m:
		return
	case had != nil && had.hash != m.hash:
		l.forget(s)
	}
	s.member.Store(m)
	l.mu.Lock()
	p := l.users[m.hash]
	if p == nil {
		p = &places{sessions: map[*Session]bool{}, due: map[*Session]bool{}}
		l.users[m.hash] = p
	}
	p.sessions[s] = true
	l.mu.Unlock()
	// The store is told of it when it begins to play, and by its heartbeats.
	if s.counted.Load() {
		l.due(s)
	}
}

// forget drops a session that has gone from this node. Its place is kept for it by the store, for a while.
func (l *limits) forget(s *Session) {
	m := s.member.Swap(nil)
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
func (l *limits) dropEmpty(hash string, p *places) {
	if len(p.sessions) == 0 && !p.telling && !p.again {
		delete(l.users, hash)
	}
}

// due has the store told soon how a session stands. It neither blocks nor allocates: requests call it.
func (l *limits) due(s *Session) {
	select {
	case l.begun <- s:
	default: // its next heartbeat says it
	}
}

// run tells the store how sessions stand, until the registry closes.
func (l *limits) run() {
	for {
		select {
		case <-l.r.life.Done():
			return
		case s := <-l.begun:
			if m := s.member.Load(); m != nil {
				l.mu.Lock()
				l.markDue(m.hash, s)
				l.mu.Unlock()
			}
		}
	}
}

// markDue has the store told of sessions of a user, with others that are due by then. It is called under the lock.
func (l *limits) markDue(hash string, due ...*Session) {
	p := l.users[hash]
	if p == nil {
		return
	}
	for _, s := range due {
		if p.sessions[s] {
			p.due[s] = true
		}
	}
	if len(p.due) > 0 && !p.telling {
		p.telling = l.r.background(func() { l.holdDue(hash, p) })
	}
}

// holdDue tells the store of a user's sessions until none is due.
func (l *limits) holdDue(hash string, p *places) {
	for {
		l.mu.Lock()
		var due []*Session
		for s := range p.due {
			if delete(p.due, s); !s.gone.Load() {
				due = append(due, s)
			}
			if len(due) == toldAtOnce {
				break
			}
		}
		if len(due) == 0 || l.r.life.Err() != nil {
			p.telling = false
			l.dropEmpty(hash, p)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.hold(due)
	}
}

// hold keeps the places of sessions of one user.
func (l *limits) hold(due []*Session) {
	var held []*Session
	var of []session.StreamEntry
	var user *member
	for _, s := range due {
		if m := s.member.Load(); m != nil && (user == nil || m.user == user.user) {
			held, of, user = append(held, s), append(of, s.membership(m, s.Ticket().Opened)), m
		}
	}
	if user == nil {
		return
	}
	ctx, cancel := context.WithTimeout(l.r.life, writeDeadline)
	defer cancel()
	got, err := l.r.o.Cluster.RenewStreams(ctx, of)
	if err != nil {
		return // they are held again with the next heartbeat
	}
	l.tell(user, got, backends.SessionID{})
	for i, s := range held {
		if v, lost := lostPlace(got.States[i]); lost {
			// It may have lost its place before this node had it: that is told once, to those who have it then.
			l.r.tell(s, session.Revoked{Kind: v.Kind, Opened: of[i].Opened, Decision: v.Decision})
		}
	}
}

// lostPlace is what a standing revokes, if it does.
func lostPlace(s session.StreamState) (v session.Revocation, lost bool) {
	switch s {
	case session.StreamEvicted:
		return session.Revocation{Kind: session.RevokedEvicted, Decision: evicted(&backends.Decision{})}, true
	case session.StreamSuperseded:
		return session.Revocation{Kind: session.RevokedSuperseded, Decision: superseded()}, true
	default:
		return session.Revocation{}, false
	}
}

// tell carries out what the user's limit said. joining is a session that is not told, as it waits for the answer.
func (l *limits) tell(m *member, got session.LimitResult, joining backends.SessionID) {
	for _, c := range got.Evicted {
		if c.Session != joining {
			l.r.cut(c)
		}
	}
	if got.RecheckIn <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.users[m.hash]; p != nil && !p.again {
		p.again = true
		time.AfterFunc(got.RecheckIn, func() {
			l.mu.Lock()
			p.again = false
			l.mu.Unlock()
			l.over(m.hash)
		})
	}
}

// over has the store told at once how all sessions of a user stand.
func (l *limits) over(hash string) {
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

// cut tells all nodes that a session lost its place.
func (r *Registry) cut(c session.EvictedStream) {
	v, lost := lostPlace(c.State)
	if !lost {
		return
	}
	v.Session, v.Opened = c.Session, c.Opened
	ctx, cancel := r.writing()
	defer cancel()
	var err error
	if v.Kind == session.RevokedEvicted {
		err = r.o.Cluster.SetEvicted(ctx, c.Session, true)
	} else {
		err = r.o.Cluster.RevokeSession(ctx, c.Session, c.Opened, 0)
	}
	if err != nil {
		r.o.Logger.Warn("a session that lost its place could not be marked; it may come back on a node that does not hold it",
			slog.String("session", c.Session.String()), slog.Any("error", err))
	}
	if s := r.table.find(c.Session); s != nil {
		r.tell(s, session.Revoked{Kind: v.Kind, Opened: v.Opened, Decision: v.Decision})
	}
	r.announce(v)
}

// evict marks a session that has no place.
func (r *Registry) evict(ctx context.Context, id backends.SessionID) {
	if err := r.o.Cluster.SetEvicted(context.WithoutCancel(ctx), id, true); err != nil {
		r.o.Logger.Debug("a session without a place could not be marked", slog.Any("error", err))
	}
}

// evicted is what a viewer is told whose user watches as much as he may.
func evicted(d *backends.Decision) backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromLimit, UserID: d.UserID, User: d.User,
		Reason: "the user watches as many streams as he may",
	}
}

func superseded() backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromLimit, Reason: "the viewer is on another channel",
	}
}
