package actors

import (
	"log/slog"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// revoker ends the sessions of this node that others revoked.
type revoker struct {
	core

	mu sync.Mutex
	// pending are bans whose sessions are not yet denied. isRunning: a task denies them. A burst of bans is one pass over all
	// sessions, not one each.
	pending   map[string]session.Ban
	isRunning bool

	siblings, lifted, unstored, unseen, all, lost pass
}

// pass is work on all sessions that is done again if it is asked for meanwhile, but never twice at once: a store that fails every few
// seconds asks for it each time, and with a million sessions it takes minutes. The zero value is ready for use. Safe for concurrent use.
type pass struct {
	mu sync.Mutex
	// isPending: it is to be done. isRunning: a task does it.
	isPending, isRunning bool
}

// ask has it done soon.
func (p *pass) ask(l *lifecycle, work func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isPending = true
	if !p.isRunning {
		p.isRunning = l.tryRun(func() {
			for p.isWanted() && !l.isEnding() {
				work()
			}
		})
	}
}

// isWanted reports whether it is to be done once more.
func (p *pass) isWanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isRunning, p.isPending = p.isPending, false
	return p.isRunning
}

func (r *revoker) apply(v session.Revocation) {
	switch v.Kind {
	case session.RevokedBanned:
		if v.Ban.Session.IsZero() {
			r.applyBan(v.Ban)
		} else {
			r.applySessionBan(v.Ban)
		}
		if !v.Ban.Session.IsZero() || len(v.Ban.Sessions) > 0 {
			r.applyToSiblings()
		}
	case session.RevokedUnbanned:
		r.lifted.ask(r.life, r.liftBans)
	default:
		if s := r.table.find(v.Session); s != nil {
			r.send(s, session.Revoked{Kind: v.Kind, Opened: v.Opened, Decision: v.Decision})
		}
	}
}

// applySessionBan denies the banned session, which needs no pass over all of them: a ban of a user leads to many of these.
func (r *revoker) applySessionBan(b session.Ban) {
	if s := r.table.find(b.Session); s != nil && !isBanDenial(s.Decision()) {
		r.send(s, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(b)})
	}
}

// applyToSiblings has the siblings of banned sessions denied soon.
func (r *revoker) applyToSiblings() { r.siblings.ask(r.life, r.denySiblings) }

// siblingsPause spaces the passes over all sessions that the bans of single sessions need.
const siblingsPause = 500 * time.Millisecond

// denySiblings denies the siblings of banned sessions. Of a sibling that was admitted by its ticket alone nothing else is known.
func (r *revoker) denySiblings() {
	r.table.each(func(s *Session) bool {
		if s.ticketUse.isSibling() && !isBanDenial(s.Decision()) {
			root := &backends.Request{Session: s.ticketUse.root}
			if ban, isBanned := r.cluster.Banned(root, nil); isBanned {
				r.send(s, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(ban)})
			}
		}
		return !r.life.isEnding()
	})
	pause(r.life.ctx, siblingsPause)
}

// applyBan has the sessions denied soon that are banned now.
func (r *revoker) applyBan(b session.Ban) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = make(map[string]session.Ban)
	}
	r.pending[b.ID] = b
	if !r.isRunning {
		r.isRunning = r.life.tryRun(r.denyBanned)
	}
}

// denyBanned denies the banned sessions until no ban is pending. It also bans the credentials that a banned user's viewers
// presented, so that they stay out when the middleware cannot name the user.
func (r *revoker) denyBanned() {
	for {
		r.mu.Lock()
		bans := r.pending
		r.pending = nil
		if len(bans) == 0 || r.life.isEnding() {
			r.isRunning = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		presented := make(map[*backends.Request]session.Ban)
		r.table.each(func(s *Session) bool {
			ban, isBanned := r.cluster.Banned(s.Request(), s.Decision())
			if !isBanned {
				return !r.life.isEnding()
			}
			if !isBanDenial(s.Decision()) {
				r.send(s, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(ban)})
			}
			if _, isNew := bans[ban.ID]; isNew && ban.User != "" && s.flags.has(flagCredentials) {
				presented[s.Request()] = ban
			}
			return !r.life.isEnding()
		})
		r.banCredentials(presented)
	}
}

// isBanDenial reports whether a ban or a kick denied a session.
func isBanDenial(d *backends.Decision) bool {
	return d != nil && (d.Source == backends.FromBan || d.Source == backends.FromOperator)
}

// banCredentials bans the credentials of requests whose users are banned.
func (r *revoker) banCredentials(presented map[*backends.Request]session.Ban) {
	if len(presented) == 0 {
		return
	}
	ctx, cancel := r.cluster.writeContext()
	defer cancel()
	err := r.cluster.BanCredentials(ctx, func(yield func(session.Ban, *backends.Request) bool) {
		for request, ban := range presented {
			if !yield(ban, request) {
				return
			}
		}
	})
	if err != nil {
		r.log.Warn("credentials of banned users not banned", slog.Int("viewers", len(presented)), slog.Any("error", err))
	}
}

// banDecision returns the decision on a viewer who is banned, or whose session an operator ended.
func banDecision(b session.Ban) backends.Decision {
	d := backends.Decision{Verdict: backends.Denied, Source: backends.FromBan, Reason: "banned: " + b.ID}
	if b.IsKick {
		d = session.Kicked(b.Reason)
	}
	d.UserID = b.User
	return d
}

// liftBans closes the sessions that a ban or a kick denied. A viewer who is still banned is denied again at the next request.
func (r *revoker) liftBans() {
	r.table.each(func(s *Session) bool {
		if isBanDenial(s.Decision()) {
			r.send(s, session.Forgotten{})
		}
		return !r.life.isEnding()
	})
}

// reloadPause spaces look-ups and writes of many sessions, so that the store sees at most two thousand per second, and fewer if it
// does not answer as many.
const reloadPause = 500 * time.Microsecond

// reloadUnstored looks up the sessions that the store may know otherwise: the unverified ones, and those that it may lack.
func (r *revoker) reloadUnstored() {
	r.reload(&r.unstored, func(s *Session) bool {
		d := s.Decision()
		return d != nil && d.Verdict == backends.Allowed && (!d.Source.IsAuthoritative() || s.flags.has(flagUnsaved))
	})
}

// reloadUnseen looks up the sessions of which another node may have signed another ticket: the message of it may be missed.
func (r *revoker) reloadUnseen() {
	r.reload(&r.unseen, func(s *Session) bool { return s.flags.has(flagTicketUnseen) })
}

func (r *revoker) reloadAll() { r.reload(&r.all, func(*Session) bool { return true }) }

// reload looks up some sessions.
func (r *revoker) reload(p *pass, which func(*Session) bool) {
	p.ask(r.life, func() {
		r.table.each(func(s *Session) bool {
			if !which(s) {
				return !r.life.isEnding()
			}
			r.send(s, session.MustReload{})
			return r.pauseReload()
		})
	})
}

// pauseReload returns when the next session may be looked up or stored, and false if the registry closes.
func (c *core) pauseReload() bool {
	for pause(c.life.ctx, reloadPause) {
		if !c.cluster.isBacklogged() {
			return true
		}
	}
	return false
}

// newHeartbeats is how often a session is reported, at most, before a loss of its record is noticed: that takes one interval.
const newHeartbeats = 2

// saveLost stores sessions again that the store has lost. The evicted ones: their tickets must not admit them as unknown ones.
// The new ones: an eviction marks no unknown session, and their first heartbeat, which tells of no loss, may have followed it.
func (r *revoker) saveLost() {
	r.lost.ask(r.life, func() {
		r.table.each(func(s *Session) bool {
			record := s.evicted.Load()
			if record == nil {
				if s.heartbeats.Load() > newHeartbeats {
					return !r.life.isEnding()
				}
				r.send(s, session.LostInStore{})
				return r.pauseReload()
			}
			if _, err := r.cluster.saveDecision(session.DecisionUpdate{Record: *record}); err != nil {
				r.log.Debug("evicted session not stored again", slog.String("session", s.id.String()), slog.Any("error", err))
			}
			r.cluster.markEvicted(r.life.ctx, s.id)
			return r.pauseReload()
		})
	})
}

// revocationOf returns the revocation that a stream's state demands, if any.
func revocationOf(s session.StreamState) (v session.Revocation, isRevoked bool) {
	switch s {
	case session.StreamEvicted:
		return session.Revocation{Kind: session.RevokedEvicted, Decision: evictedDecision(&backends.Decision{})}, true
	case session.StreamSuperseded:
		return session.Revocation{Kind: session.RevokedSuperseded, Decision: supersededDecision()}, true
	default:
		return session.Revocation{}, false
	}
}

// evictedDecision denies a viewer whose user has as many streams as the limit allows.
func evictedDecision(d *backends.Decision) backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromLimit, UserID: d.UserID, User: d.User,
		Reason: "the user watches as many streams as allowed",
	}
}

func supersededDecision() backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromLimit, Reason: backends.ReasonSuperseded,
	}
}

// evictLater evicts a stream, and waits for no answer of the store. A running task may call it.
func (l *streamLimits) evictLater(e session.EvictedStream, isLocal bool) {
	l.life.run(func() { l.evict(e, isLocal) })
}

// evict revokes an evicted or superseded stream on all nodes; on this one alone if that is what counted it.
func (l *streamLimits) evict(e session.EvictedStream, isLocal bool) {
	v, isRevoked := revocationOf(e.State)
	if !isRevoked {
		return
	}
	v.Session, v.Opened = e.Session, e.Opened
	ctx, cancel := l.cluster.writeContext()
	defer cancel()
	var err error
	switch {
	case v.Kind == session.RevokedEvicted:
		err = l.cluster.SetEvicted(ctx, e.Session, true)
	case !isLocal: // or it would be stored after the outage, and end the channel to which the viewer has come back meanwhile
		err = l.cluster.RevokeSession(ctx, e.Session, e.Opened)
	}
	if err != nil && !isLocal {
		l.log.Warn("eviction not stored, the session may return on another node",
			slog.String("session", e.Session.String()), slog.Any("error", err))
	}
	if s := l.table.find(e.Session); s != nil {
		l.send(s, session.Revoked{Kind: v.Kind, Opened: v.Opened, Decision: v.Decision})
	}
	if !isLocal { // or it would end, after an outage, what the others let play
		l.cluster.announce(v)
	}
}
