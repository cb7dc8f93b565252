package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/events"
	"usher/cluster/redisclient"
)

const (
	// maxDeferred is how many sessions have deferred writes while Redis is unavailable, about 1 kB each.
	maxDeferred = 200_000
	// concurrentFlushes is how many sessions are written at once after an outage: a few pipelines.
	concurrentFlushes = 128
	// flushRetryInterval is how often deferred writes are tried again.
	flushRetryInterval = time.Second
)

// interruption is a time in which nodes could not report all sessions that they saw: an outage, or several between which there was no
// time for that. It is safe for concurrent use.
type interruption struct {
	mu           sync.Mutex
	began, ended time.Time
}

// add notes an outage, unless it is noted already, and returns the interruption of which it is a part. Between two of them lies the given
// pause at least.
func (i *interruption) add(began, ended time.Time, pause time.Duration) (length time.Duration, end time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if ended.After(i.ended) {
		if began.Sub(i.ended) >= pause {
			i.began = began
		}
		i.ended = ended
	}
	return i.ended.Sub(i.began), i.ended
}

// lastInterruption returns how much longer than else a session may be silent that plays, and when the interruption ended that is the
// reason. Nodes need two heartbeats to report all sessions: a session's first one may have come just before.
func (r *Redis) lastInterruption() (longer time.Duration, ended time.Time) {
	began, ended := r.client.LastOutage()
	if began.IsZero() {
		return 0, time.Time{}
	}
	length, ended := r.interruption.add(began, ended, 2*r.heartbeatInterval)
	return length + r.heartbeatInterval, ended
}

// deferredWrites are what is written to Redis after an outage. It is safe for concurrent use.
type deferredWrites struct {
	mu      sync.Mutex
	writes  map[backends.SessionID]*deferredWrite
	dropped int
	// allDropped is how many were dropped since the start.
	allDropped atomic.Uint64
}

// deferredWrite is what is written of one session.
type deferredWrite struct {
	// revokedTicket is the denial that revoked a ticket, or nil.
	revokedTicket *deferredDenial
	// revokedBefore refuses the tickets that were opened at that time or before; zero: none is refused.
	revokedBefore time.Time
	hasCounters   bool
	counters      session.Counters
	lastSeen      time.Time
}

// deferredDenial is an update that revokes a ticket, and when it was decided.
type deferredDenial struct {
	update  session.DecisionUpdate
	decided time.Time
}

func newDeferredWrites() *deferredWrites {
	return &deferredWrites{writes: make(map[backends.SessionID]*deferredWrite)}
}

// edit calls change with the deferred write of a session.
func (d *deferredWrites) edit(id backends.SessionID, change func(*deferredWrite)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.writes[id]
	if w == nil {
		if len(d.writes) >= maxDeferred {
			d.dropped++
			d.allDropped.Add(1)
			return
		}
		w = new(deferredWrite)
		d.writes[id] = w
	}
	change(w)
}

func (d *deferredWrites) deferRevokedTicket(u session.DecisionUpdate) {
	d.edit(u.Record.ID, func(w *deferredWrite) { w.revokedTicket = &deferredDenial{u, time.Now()} })
}

func (d *deferredWrites) deferTombstone(id backends.SessionID, opened time.Time) {
	if opened.IsZero() {
		opened = time.Now() // a session that is opened after the outage is another one
	}
	d.edit(id, func(w *deferredWrite) { w.mergeTombstone(opened) })
}

func (w *deferredWrite) mergeTombstone(opened time.Time) {
	if opened.After(w.revokedBefore) {
		w.revokedBefore = opened
	}
}

func (d *deferredWrites) deferCounters(id backends.SessionID, c session.Counters) {
	d.edit(id, func(w *deferredWrite) { w.counters, w.hasCounters = sumCounters(w.counters, c), true })
}

// deferHeartbeats keeps when sessions with deferred counters were last seen: those sessions must be closed.
func (d *deferredWrites) deferHeartbeats(seen []session.Heartbeat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range seen {
		if w := d.writes[h.ID]; w != nil && w.hasCounters && h.LastSeen.After(w.lastSeen) {
			w.lastSeen = h.LastSeen
		}
	}
}

// takeAll returns all writes and removes them.
func (d *deferredWrites) takeAll() (writes map[backends.SessionID]*deferredWrite, dropped int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	writes, dropped = d.writes, d.dropped
	d.writes, d.dropped = make(map[backends.SessionID]*deferredWrite), 0
	return writes, dropped
}

func (d *deferredWrites) isEmpty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.writes) == 0
}

// putBack defers again what could not be written.
func (d *deferredWrites) putBack(id backends.SessionID, w *deferredWrite) {
	d.edit(id, func(now *deferredWrite) {
		if now.revokedTicket == nil {
			now.revokedTicket = w.revokedTicket
		}
		now.mergeTombstone(w.revokedBefore)
		if w.hasCounters {
			now.counters, now.hasCounters = sumCounters(w.counters, now.counters), true
		}
		if w.lastSeen.After(now.lastSeen) {
			now.lastSeen = w.lastSeen
		}
	})
}

// denyAgain writes in the background what denies streams, and the sessions that were revoked lately: Redis lost it.
func (r *Redis) denyAgain(recent []events.Issued) {
	for _, issued := range recent {
		switch v := issued.Revocation; v.Kind {
		case session.RevokedDenied, session.RevokedKicked, session.RevokedSuperseded:
			opened := v.Opened
			if opened.IsZero() {
				opened = issued.At
			}
			r.deferred.deferTombstone(v.Session, opened)
		default: // bans are written with the other bans, and streams are reported with the next heartbeats
		}
	}
	r.requestFlush()
	select {
	case r.restoreRequested <- struct{}{}:
	default:
	}
}

// restoreOnRequest stores the denied streams again whenever that is requested, until ctx ends.
func (r *Redis) restoreOnRequest(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.restoreRequested:
			r.RestoreDenied(ctx)
		}
	}
}

// requestFlush asks for the deferred writes to be written. It does not block.
func (r *Redis) requestFlush() {
	select {
	case r.flushRequested <- struct{}{}:
	default:
	}
}

// flushOnRequest writes the deferred writes whenever that is requested, and what a single write left behind that failed while
// Redis served others, until ctx ends.
func (r *Redis) flushOnRequest(ctx context.Context) {
	retry := time.NewTicker(flushRetryInterval)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.flushRequested:
		case <-retry.C:
			if r.IsDown() || r.deferred.isEmpty() {
				continue
			}
		}
		r.flushDeferred(ctx)
	}
}

// flushDeferred writes the deferred writes, a few pipelines at once. Then the local store is cleared: Redis has it all.
func (r *Redis) flushDeferred(ctx context.Context) {
	writes, dropped := r.deferred.takeAll()
	if dropped > 0 {
		r.log.Warn("deferred writes dropped, too many during the redis outage",
			slog.Int("sessions", dropped), slog.Int("max", maxDeferred))
	}
	var failed sync.Map
	group, _ := errgroup.WithContext(ctx)
	group.SetLimit(concurrentFlushes)
	for id, w := range writes {
		group.Go(func() error {
			if err := r.flushOne(ctx, id, w); err != nil {
				failed.Store(id, w)
				return err
			}
			return nil
		})
	}
	err := group.Wait()
	failed.Range(func(id, w any) bool {
		r.deferred.putBack(id.(backends.SessionID), w.(*deferredWrite)) //nolint:forcetypeassert // as stored above
		return true
	})
	if err != nil {
		r.log.Info("deferred writes failed, trying again soon", slog.Any("error", err))
		return
	}
	r.local.clear()
	if len(writes) > 0 {
		r.log.Info("deferred writes stored", slog.Int("sessions", len(writes)))
	}
}

// flushOne writes what is deferred of a session. It removes from w what was written, as counters must not be added twice.
func (r *Redis) flushOne(ctx context.Context, id backends.SessionID, w *deferredWrite) error {
	if w.revokedTicket != nil {
		if err := r.flushDenial(ctx, w.revokedTicket); err != nil {
			return err
		}
		w.revokedTicket = nil
	}
	if !w.revokedBefore.IsZero() {
		if err := r.sendTombstone(ctx, id, w.revokedBefore); err != nil {
			return err
		}
		w.revokedBefore = time.Time{}
	}
	if w.hasCounters {
		err := r.sendCounters(ctx, id, w.counters)
		if errors.Is(err, redisclient.ErrNotSent) {
			return err
		}
		if w.hasCounters = false; err != nil { // they may have been added
			return err
		}
	}
	if w.lastSeen.IsZero() {
		return nil
	}
	_, err := r.sendHeartbeats(ctx, bucketOf(id), []session.Heartbeat{{ID: id, LastSeen: w.lastSeen}})
	return err
}

// flushDenial writes a denial, and announces it. It does neither if the viewer was allowed since.
func (r *Redis) flushDenial(ctx context.Context, d *deferredDenial) error {
	u := d.update
	u.Record.Revision = 0 // it was decided without the store, so that its age orders it
	outcome, err := r.sendDecision(ctx, &u, time.Since(d.decided))
	if err != nil || outcome == session.OutcomeStale {
		return err
	}
	if r.onDenied != nil {
		r.onDenied(ctx, session.Revocation{
			Kind: session.RevokedDenied, Session: u.Record.ID, Opened: u.Record.Opened, Decision: u.Record.Decision,
		})
	}
	return nil
}
