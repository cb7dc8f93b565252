package actors

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// beatSteps is into how many steps a heartbeat is spread, so that a million sessions are no burst. It divides
	// tableShards.
	beatSteps = 16
	// sweepEvery is how often it is looked for sessions that are over.
	sweepEvery = 5 * time.Second
	// sweepMost bounds one look, so that it stays far below what a store does in its deadline.
	sweepMost = 500
)

// present is when the session's viewer was seen. Who watches at an edge shows himself only when the edge asks, so that he
// counts as seen for as long as the edge need not.
func (s *Session) present() session.Heartbeat {
	seen := s.lastSeen.Load()
	s.beaten.Store(seen)
	p := session.Heartbeat{ID: s.id, LastSeen: s.rules.Start.Add(time.Duration(seen))}
	if d := s.Decision(); d != nil && s.margin > 0 {
		p.LastSeen = p.LastSeen.Add(max(0, s.rules.Clamped(d.ValidFor)+s.margin-s.rules.IdleTimeout))
	}
	return p
}

// beat says, step by step, whose viewers are here, until the registry closes.
func (r *Registry) beat() {
	ticker := time.NewTicker(r.o.HeartbeatInterval / beatSteps)
	defer ticker.Stop()
	for step := 0; ; step = (step + 1) % beatSteps {
		select {
		case <-r.life.Done():
			return
		case <-ticker.C:
			r.beatStep(step)
		}
	}
}

func (r *Registry) beatStep(step int) {
	seen := r.seenIn(step)
	if len(seen) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(r.life, writeDeadline)
	defer cancel()
	unknown, err := r.o.Cluster.RecordHeartbeats(ctx, seen)
	if err != nil {
		// They are seen again with the next heartbeat; the store tells of its absence itself.
		for _, p := range seen {
			if s := r.table.find(p.ID); s != nil {
				s.beaten.Store(1) // not zero: it is not new
			}
		}
		return
	}
	for _, id := range unknown {
		if s := r.table.find(id); s != nil && !s.fresh.Load() {
			r.tell(s, session.LostInStore{})
		}
	}
}

// seenIn is what the store has to learn of the sessions of one step.
func (r *Registry) seenIn(step int) (seen []session.Heartbeat) {
	const width = tableShards / beatSteps
	for i := step * width; i < (step+1)*width; i++ {
		r.table.eachIn(i, func(s *Session) bool {
			if s.gone.Load() || s.first.Load() != nil {
				return true
			}
			if s.member.Load() != nil {
				r.limits.due(s)
			}
			// Strangers who are refused from the first have no sessions that could end.
			watched := s.beaten.Load() != 0 || s.Decision().Verdict == backends.Allowed
			if before := s.beaten.Load(); r.o.Cluster.Shared() && watched && s.lastSeen.Load() > before {
				p := s.present()
				s.fresh.Store(before == 0)
				seen = append(seen, p)
			}
			return true
		})
	}
	return seen
}

// sweep closes the sessions that are over, until the registry closes.
func (r *Registry) sweep() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-r.life.Done():
			return
		case <-ticker.C:
		}
		for r.sweepOnce() > 0 {
		}
	}
}

// sweepOnce closes some of the sessions that are over. What the nodes last said of them may be a heartbeat old.
func (r *Registry) sweepOnce() int {
	ctx, cancel := context.WithTimeout(r.life, writeDeadline)
	defer cancel()
	over, err := r.o.Cluster.ExpireIdle(ctx, r.o.Config.IdleTimeout+r.o.HeartbeatInterval, sweepMost)
	if err != nil {
		return 0
	}
	for _, c := range over {
		r.conclude(ctx, c)
	}
	return len(over)
}

// conclude gives back the session's place and writes its closing record, the only one over all nodes.
func (r *Registry) conclude(ctx context.Context, c session.ClosingRecord) {
	f, d := c.Record.Request, &c.Record.Decision
	if f == nil {
		f = new(backends.Request)
	}
	if m := r.limits.memberOf(f, d); m != nil {
		if err := r.o.Cluster.LeaveStream(ctx, m.user, c.Record.ID); err != nil {
			r.o.Logger.Debug("a closed session's place could not be given back; it ends by itself", slog.Any("error", err))
		}
	}
	why := session.ClosedIdle
	if d.Verdict == backends.Denied || c.Record.IsEvicted || !c.Record.Opened.After(c.Record.RevokedBefore) {
		why = session.ClosedDenied
	}
	r.o.Logger.Info("session closed",
		slog.String("session", c.Record.ID.String()), slog.String("why", why.String()),
		slog.String("route", f.Route), slog.String("channel", f.Channel),
		slog.String("user", d.User), slog.String("user_id", d.UserID),
		slog.String("verdict", d.Verdict.String()), slog.String("source", d.Source.String()),
		slog.String("history", c.Counters.History),
		slog.Duration("duration", c.LastSeen.Sub(c.Since).Round(time.Millisecond)),
		slog.Duration("without_answer", c.Counters.Unverified),
		slog.Int64("requests", c.Counters.Requests), slog.Int64("bytes", c.Counters.Bytes))
}

// handOver stores what this node counted of its sessions before it goes.
func (r *Registry) handOver() {
	if !r.o.Cluster.Shared() {
		return
	}
	free := make(chan struct{}, handOverAtOnce)
	var all sync.WaitGroup
	end := time.Now().Add(handOverFor)
	r.table.each(func(s *Session) bool {
		if s.gone.Load() || s.first.Load() != nil {
			return true
		}
		free <- struct{}{}
		all.Go(func() {
			r.leave(s, s.tally())
			<-free
		})
		return time.Now().Before(end)
	})
	all.Wait()
}

const (
	// handOverAtOnce is how many sessions are handed over at once: enough to fill the store's pipelines.
	handOverAtOnce = 256
	// handOverFor bounds it all; what was not handed over by then is lost with its counters alone.
	handOverFor = 5 * time.Second
)
