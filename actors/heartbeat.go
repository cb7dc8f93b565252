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
	// heartbeatSteps is the number of steps over which a heartbeat is spread, so that a million sessions are no burst. It
	// divides tableShards.
	heartbeatSteps = 16
	// expiryInterval is how often expired sessions are looked for.
	expiryInterval = 5 * time.Second
	// maxExpired bounds one call, so that it stays far below the store's timeout.
	maxExpired = 500
)

// heartbeatReporter reports to the store when sessions were last seen, and closes those that no node has seen for too long.
type heartbeatReporter struct {
	core
	streams     *streamLimits
	addresses   *addressLimit
	interval    time.Duration
	idleTimeout time.Duration
}

func newHeartbeatReporter(
	c core, streams *streamLimits, addresses *addressLimit, interval, idleTimeout time.Duration,
) *heartbeatReporter {
	return &heartbeatReporter{core: c, streams: streams, addresses: addresses, interval: interval, idleTimeout: idleTimeout}
}

// heartbeat returns when the session was last seen. An edge asks only when a decision expires, so last-seen is extended by
// the decision's validity.
func (s *Session) heartbeat() session.Heartbeat {
	seen := s.lastSeen.Load()
	s.reportedSeen.Store(seen)
	h := session.Heartbeat{ID: s.id, LastSeen: s.policy().Start.Add(time.Duration(seen))}
	if d := s.Decision(); d != nil && s.extraLifetime > 0 {
		h.LastSeen = h.LastSeen.Add(max(0, s.policy().Clamped(d.ValidFor)+s.extraLifetime-s.policy().IdleTimeout))
	}
	return h
}

// run reports heartbeats step by step until the registry closes.
func (h *heartbeatReporter) run() {
	ticker := time.NewTicker(h.interval / heartbeatSteps)
	defer ticker.Stop()
	for step := 0; ; step = (step + 1) % heartbeatSteps {
		select {
		case <-h.life.ctx.Done():
			return
		case <-ticker.C:
			h.report(step)
		}
	}
}

// report stores the heartbeats of one step.
func (h *heartbeatReporter) report(step int) {
	seen := h.collect(step)
	if len(seen) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(h.life.ctx, writeTimeout)
	defer cancel()
	unknown, err := h.cluster.RecordHeartbeats(ctx, seen)
	if err != nil {
		// The store logs its own outage. The next heartbeat reports them again.
		for _, heartbeat := range seen {
			if s := h.table.find(heartbeat.ID); s != nil {
				s.reportedSeen.Store(1) // not zero: the store may know it
			}
		}
		return
	}
	for _, id := range unknown {
		if s := h.table.find(id); s != nil && s.heartbeats.Load() > 1 {
			h.send(s, session.LostInStore{})
		}
	}
}

// collect returns the heartbeats of one step that the store does not know yet, and queues streams for renewal.
func (h *heartbeatReporter) collect(step int) (seen []session.Heartbeat) {
	const width = tableShards / heartbeatSteps
	isShared := h.cluster.Shared()
	for i := step * width; i < (step+1)*width; i++ {
		h.table.eachIn(i, func(s *Session) bool {
			if s.isClosed.Load() || s.opening.Load() != nil {
				return true
			}
			if s.stream.Load() != nil {
				h.streams.queueRenewal(s)
			}
			if s.ticketUse != nil {
				h.addresses.queueRenewal(s)
			}
			if isShared && s.isUnsaved.Load() {
				h.send(s, session.MustReload{})
			}
			// The store does not know a viewer who was denied from the start, so nothing expires there.
			reported := s.reportedSeen.Load()
			isKnown := reported != 0 || s.Decision().Verdict == backends.Allowed
			if isShared && isKnown && s.lastSeen.Load() > reported {
				seen = append(seen, s.heartbeat())
				s.heartbeats.Add(1)
			}
			return true
		})
	}
	return seen
}

// runExpiry closes expired sessions until the registry closes.
func (h *heartbeatReporter) runExpiry() {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-h.life.ctx.Done():
			return
		case <-ticker.C:
		}
		for h.expire() > 0 {
		}
	}
}

// expire closes some of the expired sessions, and returns how many; 0 if the store failed. Another node may have seen a session up to one heartbeat
// after the last one that the store knows.
func (h *heartbeatReporter) expire() int {
	ctx, cancel := context.WithTimeout(h.life.ctx, writeTimeout)
	defer cancel()
	expired, err := h.cluster.ExpireIdle(ctx, h.idleTimeout+h.interval, maxExpired)
	for _, c := range expired { // also with an error: nobody else is told of them
		h.conclude(ctx, c)
	}
	if err != nil {
		return 0
	}
	return len(expired)
}

// conclude frees the session's stream and logs its closing record, the only one over all nodes.
func (h *heartbeatReporter) conclude(ctx context.Context, c session.ClosingRecord) {
	r, d := c.Record.Request, &c.Record.Decision
	if r == nil {
		r = new(backends.Request)
	}
	if u := h.streams.streamOf(r, d); u != nil {
		h.cluster.ReportStreams(ctx, session.StreamEntry{User: u.hash, Session: c.Record.ID, IsLeaving: true})
	}
	h.log.Info("session closed",
		slog.String("session", c.Record.ID.String()), slog.String("why", c.Reason().String()),
		slog.String("route", r.Route), slog.String("channel", r.Channel),
		slog.String("user", d.User), slog.String("user_id", d.UserID),
		slog.String("verdict", d.Verdict.String()), slog.String("source", d.Source.String()),
		slog.String("history", c.Counters.History),
		slog.Duration("duration", c.LastSeen.Sub(c.Since).Round(time.Millisecond)),
		slog.Duration("unverified", c.Counters.Unverified),
		slog.Int64("requests", c.Counters.Requests), slog.Int64("bytes", c.Counters.Bytes))
}

const (
	// maxHandOvers is how many sessions are handed over at once: enough to fill the store's pipelines.
	maxHandOvers = 256
	// handOverTimeout bounds the whole hand-over. The counters of the sessions that are left are lost.
	handOverTimeout = 5 * time.Second
)

// handOver stores what this node counted of its sessions, before the registry closes.
func (h *heartbeatReporter) handOver() {
	if !h.cluster.Shared() {
		return
	}
	slots := make(chan struct{}, maxHandOvers)
	var tasks sync.WaitGroup
	end := time.Now().Add(handOverTimeout)
	h.table.each(func(s *Session) bool {
		if s.isClosed.Load() || s.opening.Load() != nil {
			return true
		}
		slots <- struct{}{}
		tasks.Go(func() {
			h.cluster.handOver(s, s.counters())
			<-slots
		})
		return time.Now().Before(end)
	})
	tasks.Wait()
}
