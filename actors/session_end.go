package actors

import (
	"log/slog"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// This file is what a session stores, while it lives and when it closes.

// request returns what the session's backend is asked about, which nobody may change. While the session opens it is the request that
// opened it, unless the session has learned other facts since. Through a re-check it is made once.
func (a *sessionActor) request() *backends.Request {
	s := a.session
	if o := s.opening.Load(); o != nil && o.request != nil && !s.flags.has(flagSettingCredentials) && o.request.Backend == s.backend.Load().name {
		return o.request
	}
	if k := a.known.record; k != nil && k.Request != nil && k.Request.Backend == s.request.Backend() {
		return k.Request
	}
	return s.Request()
}

// checkRequest returns what the backend is asked now: the request that opened the session, and what has become of the session.
func (a *sessionActor) checkRequest() *backends.Request {
	r := new(*a.request())
	r.Number, r.Opened, r.Bytes = int(a.state.CheckNumber), a.state.Opened(), a.session.Bytes()
	r.TokenTime = a.tokenTime()
	r.Current, r.IsRecheck = a.state.CurrentDecision(), !a.state.IsOpening()
	if opening := a.session.opening.Load(); opening != nil {
		r.IsStranger = opening.isStranger
	}
	return r
}

// tokenTime returns as of when the viewer's token is judged. A sibling shows the token of its root, which need not be valid any more: the
// ticket speaks for the viewer, if it holds.
func (a *sessionActor) tokenTime() time.Time {
	opened, root := a.state.Opened(), a.session.rootOpened()
	if root.IsZero() || !a.state.IsRootAllowed && opened.Sub(root) > a.session.policy().ReviveFor {
		return opened
	}
	return root
}

// record returns what another node needs to continue the session as it stands, or to check it.
func (a *sessionActor) record(revision uint64) session.Record {
	r := session.Record{
		ID: a.session.id, Opened: a.state.Opened(), KeyID: a.state.KeyID, Decision: a.state.Decision,
		Expires: a.session.policy().Start.Add(a.state.ValidUntil), CheckNumber: int(a.state.CheckNumber), Revision: revision,
		Trace: a.trace.parent(),
	}
	if a.state.HasCredentials {
		r.Request = a.request()
	}
	return r
}

// updateFor returns what the store must record. A single node stores nothing while the session lives, unless a
// stream limit may evict the session: then its yes must be known.
func (a *sessionActor) updateFor(do session.Action) (update session.DecisionUpdate, isNeeded bool) {
	r, s := a.registry, a.session
	isWanted := r.cluster.Shared() || s.stream.Load() != nil
	switch {
	case do.RevokeTicket:
	case !isWanted:
		return session.DecisionUpdate{}, false
	case do.Save && (a.state.Decision.Verdict == backends.Allowed || r.cluster.denials.allow(time.Now())):
	default: // a denial too many only releases the lease
		return releaseOf(s.id, do.Revision), do.Save || do.ReleaseLease
	}
	update = session.DecisionUpdate{Record: a.record(do.Revision), RevokeTicket: do.RevokeTicket}
	if a.known.fingerprint != 0 && !do.RevokeTicket && isSameRecord(&update.Record, a.known.record) {
		update.Fingerprint = a.known.fingerprint
	}
	return update, true
}

// releaseOf returns the update that releases a lease, and stores no decision.
func releaseOf(id backends.SessionID, lease uint64) session.DecisionUpdate {
	return session.DecisionUpdate{Record: session.Record{ID: id, Revision: lease}}
}

// isSameRecord reports whether two records of a session differ at most in CheckNumber, Expires, Revision, and what has become of the
// session since. A request counts as the same only where both records share it.
func isSameRecord(a, b *session.Record) bool {
	return a.ID == b.ID && a.Opened.Equal(b.Opened) && a.KeyID == b.KeyID && a.Decision == b.Decision && a.Request == b.Request && a.Trace == b.Trace
}

// writeToStore stores the decision, or releases the lease.
func (a *sessionActor) writeToStore(event session.Event, do session.Action) {
	update, isNeeded := a.updateFor(do)
	if !isNeeded {
		return
	}
	underWay := &a.registry.cluster.saves
	if _, isLost := event.(session.LostInStore); isLost {
		underWay = &a.registry.cluster.restores
	}
	a.store(update, underWay)
}

// store is apart from writeToStore, where an update would be allocated for each event: most need none.
func (a *sessionActor) store(update session.DecisionUpdate, underWay *atomic.Int32) {
	r, s := a.registry, a.session
	a.call(underWay, func() task {
		r.write(s, update)
		return nil
	})
}

// write stores a session's decision, or releases its lease.
func (r *Registry) write(s *Session, update session.DecisionUpdate) {
	if update.Record.Decision.Verdict == backends.Allowed && s.flags.has(flagHandedOver) {
		// A yes would have the store wait for what this node counted, which it has got.
		update = releaseOf(s.id, update.Record.Revision)
	}
	outcome, err := r.cluster.saveDecision(update)
	if update.Record.Decision.Verdict == backends.Allowed {
		s.flags.set(flagUnsaved, err != nil)
		if err != nil {
			s.flags.set(flagTicketUnseen, true)
		}
	}
	switch {
	case outcome == session.OutcomeStale:
		r.send(s, session.DecisionOutdated{})
		return
	case outcome == session.OutcomeDeferred: // the store announces it: until then another node may allow the viewer
		return
	case err != nil && update.RevokeTicket:
		r.log.Warn("ticket of a denied session not revoked, a node that forgets the denial may revive the session",
			slog.String("session", s.id.String()), slog.Any("error", err))
	}
	if update.RevokeTicket {
		r.cluster.announce(session.Revocation{
			Kind: session.RevokedDenied, Session: s.id, Opened: update.Record.Opened, Decision: update.Record.Decision,
		})
	}
}

// close ends the session on this node: it is stored first and then removed, so that a viewer who returns meanwhile is known.
// On all nodes a session closes when none has seen its viewer for long enough; see heartbeat.go. One whose actor cannot go on has no
// reason.
func (a *sessionActor) close(reason session.CloseReason, now time.Time) {
	r, s := a.registry, a.session
	a.countUnverified(backends.Decision{}, now)
	a.countExpired(now)
	a.countViewer(false)
	r.users.add(s, nil)
	if d := s.Decision(); d != nil {
		a.observe(s.Request(), d, nil)
	}
	a.trace.end()
	r.timers.disarm(s)
	s.flags.set(flagClosed, true)
	s.release() // of a session that opens again, in whose place there is another one
	r.streams.remove(s)
	if reason != session.ClosedIdle {
		r.table.remove(s)
		r.actors.stop(s)
		if !a.state.WasAllowed && !s.flags.has(flagReturned) {
			return
		}
	}
	record, counters := a.record(a.state.Revision), s.counters()
	// The store has the yes of a session that was evicted, or refused when its viewer came back. A denial must not replace it.
	isStored := r.cluster.Shared() || !a.state.WasAllowed || record.Decision.Source == backends.FromLimit
	if r.log.Enabled(r.life.ctx, slog.LevelDebug) {
		r.log.Debug("session left this node", slog.String("session", s.id.String()), slog.String("reason", reason.String()))
	}
	a.call(&r.cluster.saves, func() task {
		if !isStored {
			if _, err := r.cluster.saveDecision(session.DecisionUpdate{Record: record}); err != nil {
				r.log.Warn("closed session not stored", slog.String("session", s.id.String()), slog.Any("error", err))
			}
		}
		r.cluster.handOver(s, counters)
		if reason == session.ClosedIdle {
			r.table.remove(s)
			r.actors.stop(s)
		}
		return nil
	})
}

// reopen starts a denied session again, once for a ticket: one that is revoked does not make the session any older, so that it would
// start again with each request. While a ban concerns the viewer it does not.
func (a *sessionActor) reopen(e session.OpenRequested, now time.Time) {
	_, isBanned := a.registry.cluster.Banned(a.request(), &a.state.Decision)
	e.IsRepeated = isBanned || !e.Ticket.Opened.After(a.reopenedFor)
	a.apply(e, now)
	if a.state.IsOpening() {
		a.check = nil // the one that denied
	}
}

// noteReopened notes the ticket for which the session opens again, once the store has told of it or the backend is asked. Otherwise the
// viewer's next request opens it once more, which costs no call.
func (a *sessionActor) noteReopened(opening *pendingOpening, e *session.LeaseAnswered) {
	if isJudged := !e.IsUnavailable || e.Timer.Breaker == backends.BreakerClosed; isJudged && opening.request == nil {
		a.reopenedFor = opening.ticket.Opened
	}
}

// forgetDeniedBefore notes that a backend has answered about the session itself. An older check's answer is dropped, and does nothing.
func (a *sessionActor) forgetDeniedBefore(event session.Event, do session.Action) {
	answer, isAnswer := event.(*session.BackendAnswered)
	if isAnswer && do.Publish && answer.Decision.Verdict != backends.Pending && answer.Decision.Source.IsAuthoritative() {
		a.session.flags.set(flagDeniedBefore, false)
	}
}
