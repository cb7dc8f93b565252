package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/actors/session"
	"usher/backends"
)

// redisLimited are the limits of all nodes or, while Redis is away, of this one: then a user may watch as much as his
// limit on each.
type redisLimited struct {
	shared *redisLimits
	local  *Memory
}

// JoinStream asks for a place among the user's sessions.
func (l redisLimited) JoinStream(ctx context.Context, m session.StreamEntry) (session.LimitResult, error) {
	said, err := l.shared.JoinStream(ctx, m)
	if err != nil {
		return l.local.JoinStream(ctx, m)
	}
	return said, nil
}

// RenewStreams keeps the places, or takes some if none are known.
func (l redisLimited) RenewStreams(ctx context.Context, of []session.StreamEntry) (session.LimitResult, error) {
	said, err := l.shared.RenewStreams(ctx, of)
	if err != nil {
		return l.local.RenewStreams(ctx, of)
	}
	return said, nil
}

// LeaveStream gives the place back.
func (l redisLimited) LeaveStream(ctx context.Context, user string, id backends.SessionID) error {
	_ = l.local.LeaveStream(ctx, user, id)
	return l.shared.LeaveStream(ctx, user, id)
}

const (
	// mostHeld is how many sessions' writes are held back while Redis is away, about 1 kB each.
	mostHeld = 200_000
	// heldAtOnce is how many of them are written at once after its return: a few pipelines.
	heldAtOnce = 128
)

// heldWrites are what is to be written when Redis is back. It is safe for concurrent use.
type heldWrites struct {
	mu      sync.Mutex
	writes  map[backends.SessionID]*heldWrite
	dropped int
}

// heldWrite is what is to be written of a session.
type heldWrite struct {
	burial *session.DecisionUpdate
	// opened and until are a kick's; without until it refuses tickets alone.
	kicked        bool
	opened, until time.Time
	counted       bool
	tally         session.Counters
	seen          time.Time
}

func newHeldWrites() *heldWrites {
	return &heldWrites{writes: make(map[backends.SessionID]*heldWrite)}
}

// edit calls change with what is held of a session.
func (h *heldWrites) edit(id backends.SessionID, change func(*heldWrite)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.writes[id]
	if w == nil {
		if len(h.writes) >= mostHeld {
			h.dropped++
			return
		}
		w = new(heldWrite)
		h.writes[id] = w
	}
	change(w)
}

func (h *heldWrites) bury(p session.DecisionUpdate) {
	h.edit(p.Record.ID, func(w *heldWrite) { w.burial = &p })
}

func (h *heldWrites) kick(id backends.SessionID, opened, until time.Time) {
	if opened.IsZero() {
		opened = time.Now() // what is opened after the outage is another session
	}
	h.edit(id, func(w *heldWrite) { w.kick(opened, until) })
}

func (w *heldWrite) kick(opened, until time.Time) {
	w.kicked = true
	if opened.After(w.opened) {
		w.opened = opened
	}
	if until.After(w.until) {
		w.until = until
	}
}

func (h *heldWrites) flush(id backends.SessionID, t session.Counters) {
	h.edit(id, func(w *heldWrite) { w.tally, w.counted = sumTally(w.tally, t), true })
}

// see holds when sessions were last seen that this node lets go: one that it counted is to be closed.
func (h *heldWrites) see(seen []session.Heartbeat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range seen {
		if w := h.writes[p.ID]; w != nil && w.counted && p.LastSeen.After(w.seen) {
			w.seen = p.LastSeen
		}
	}
}

// take hands over all that is held.
func (h *heldWrites) take() (writes map[backends.SessionID]*heldWrite, dropped int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	writes, dropped = h.writes, h.dropped
	h.writes, h.dropped = make(map[backends.SessionID]*heldWrite), 0
	return writes, dropped
}

// putBack holds again what could not be written.
func (h *heldWrites) putBack(id backends.SessionID, w *heldWrite) {
	h.edit(id, func(now *heldWrite) {
		if now.burial == nil {
			now.burial = w.burial
		}
		if w.kicked {
			now.kick(w.opened, w.until)
		}
		if w.counted {
			now.tally, now.counted = sumTally(w.tally, now.tally), true
		}
		if w.seen.After(now.seen) {
			now.seen = w.seen
		}
	})
}

// refuseAgain writes once more, in its own time, what refuses those who were revoked lately.
func (r *Redis) refuseAgain(lately []issued) {
	for _, one := range lately {
		switch v := one.revocation; v.Kind {
		case session.RevokedDenied, session.RevokedKicked, session.RevokedSuperseded:
			opened := v.Opened
			if opened.IsZero() {
				opened = one.at
			}
			r.held.kick(v.Session, opened, v.Until) // without an end it refuses tickets alone, as a burial does
		default: // bans are written by their own way, and places are told with the next heartbeats
		}
	}
	r.writeSoon()
}

// writeSoon asks for what is held back to be written. It does not block.
func (r *Redis) writeSoon() {
	select {
	case r.back <- struct{}{}:
	default:
	}
}

// reconcile writes what was held back each time that Redis is back, until the store is closed.
func (r *Redis) reconcile() {
	for {
		select {
		case <-r.life.Done():
			return
		case <-r.back:
			r.writeHeld(r.life)
		}
	}
}

// writeHeld writes what was held back, so many at once. What Redis has by then this node need not know alone.
func (r *Redis) writeHeld(ctx context.Context) {
	writes, dropped := r.held.take()
	if dropped > 0 {
		r.log.Warn("some of what was decided while Redis was away is lost to the other nodes: it was too much",
			slog.Int("sessions", dropped), slog.Int("most", mostHeld))
	}
	var failed sync.Map
	group, _ := errgroup.WithContext(ctx)
	group.SetLimit(heldAtOnce)
	for id, w := range writes {
		group.Go(func() error {
			if err := r.write(ctx, id, w); err != nil {
				failed.Store(id, w)
				return err
			}
			return nil
		})
	}
	err := group.Wait()
	failed.Range(func(id, w any) bool {
		r.held.putBack(id.(backends.SessionID), w.(*heldWrite)) //nolint:forcetypeassert // as stored above
		return true
	})
	if err != nil {
		r.log.Info("not all that was held back could be written; it is tried again when Redis is back", slog.Any("error", err))
		return
	}
	r.local.clear()
	if len(writes) > 0 {
		r.log.Info("what was held back while Redis was away is written", slog.Int("sessions", len(writes)))
	}
}

// write writes what is held of a session. What it has written it takes out, as counters must not be added twice.
func (r *Redis) write(ctx context.Context, id backends.SessionID, w *heldWrite) error {
	if w.burial != nil {
		p := *w.burial
		p.Record.Revision = 0 // it was decided without the others, and a burial needs no number
		if _, err := r.publish(ctx, p); err != nil {
			return err
		}
		w.burial = nil
	}
	if w.kicked {
		if err := r.kick(ctx, id, w.opened, max(0, time.Until(w.until))); err != nil {
			return err
		}
		w.kicked = false
	}
	if !w.counted {
		return nil
	}
	if err := r.flush(ctx, id, w.tally); err != nil {
		if errors.Is(err, ErrAway) && r.guard.away() {
			return err
		}
		w.counted = false // it may have been added
		return err
	}
	w.counted = false
	if !w.seen.IsZero() {
		if _, err := r.beat(ctx, bucketOf(id), []session.Heartbeat{{ID: id, LastSeen: w.seen}}); err != nil {
			return err
		}
	}
	return nil
}
