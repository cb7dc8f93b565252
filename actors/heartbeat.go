package actors

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/actors/session"
	"usher/backends"
)

const (
	// heartbeatSteps is the number of steps over which a heartbeat is spread, so that a million sessions are no burst. It
	// divides tableShards.
	heartbeatSteps = 16
	// openedInterval is for how long nobody else may know that a session has opened: a kill in this time loses its record.
	openedInterval = 100 * time.Millisecond
	// expiryInterval is how often expired sessions are looked for.
	expiryInterval = 5 * time.Second
	// noneIsIdle is longer than any session was idle.
	noneIsIdle = 100 * 365 * 24 * time.Hour
	// maxExpired bounds one call, so that it stays far below the store's timeout.
	maxExpired = 500
	// maxFreed is how many streams of closed sessions are freed at once: enough to fill the store's pipelines.
	maxFreed = 64
)

// heartbeatReporter reports to the store when sessions were last seen, and closes those that no node has seen for too long.
type heartbeatReporter struct {
	core
	streams     *streamLimits
	addresses   *addressLimit
	interval    time.Duration
	idleTimeout time.Duration
	onClosed    func([]session.ClosingRecord) error
	onOpen      func([]session.ClosingRecord) // nil: nobody keeps open sessions

	openedMu sync.Mutex
	opened   []*Session // since the last look; guarded by openedMu

	lost pass // of storeUnknown

	keeping  sync.Mutex // held while open sessions are kept, so that none is that has closed
	isClosed bool       // all sessions have closed; guarded by keeping
}

func newHeartbeatReporter(
	c core, streams *streamLimits, addresses *addressLimit, interval, idleTimeout time.Duration,
) *heartbeatReporter {
	return &heartbeatReporter{
		core: c, streams: streams, addresses: addresses, interval: interval, idleTimeout: idleTimeout,
		onClosed: func([]session.ClosingRecord) error { return nil },
	}
}

// heartbeat returns until when the viewer was last there. An edge may ask only when a decision expires, so last-seen is extended by
// the decision's validity.
func (s *Session) heartbeat() session.Heartbeat {
	seen := s.changed()
	s.reportedSeen.Store(seen)
	h := session.Heartbeat{ID: s.id, LastSeen: s.policy().Start.Add(time.Duration(seen))}
	if d := s.Decision(); d != nil && s.extraLifetime > 0 {
		h.LastSeen = h.LastSeen.Add(max(0, s.policy().Clamped(d.ValidFor)+s.extraTime()-s.policy().IdleTimeout))
	}
	return h
}

// changed returns when what the store is told of a session changed, or what is kept of it: now, while a request is being answered.
func (s *Session) changed() int64 { return int64(s.lastAsked(time.Now()).Sub(s.policy().Start)) }

// run reports heartbeats step by step until the registry closes.
func (h *heartbeatReporter) run() {
	ticker, openedTicker := time.NewTicker(h.interval/heartbeatSteps), time.NewTicker(openedInterval)
	defer ticker.Stop()
	defer openedTicker.Stop()
	for step := 0; ; {
		select {
		case <-h.life.ctx.Done():
			return
		case <-ticker.C:
			h.report(step)
			step = (step + 1) % heartbeatSteps
		case <-openedTicker.C:
			h.reportOpened()
		}
	}
}

// onOpened has a session reported soon whose viewer may watch.
func (h *heartbeatReporter) onOpened(s *Session) {
	if h.cluster.Shared() || h.onOpen != nil {
		h.openedMu.Lock()
		h.opened = append(h.opened, s)
		h.openedMu.Unlock()
	}
}

// reportOpened stores the first heartbeats of sessions that have opened, or keeps those sessions.
func (h *heartbeatReporter) reportOpened() {
	h.openedMu.Lock()
	opened := h.opened
	h.opened = nil
	h.openedMu.Unlock()
	if len(opened) == 0 {
		return
	}
	if h.cluster.Shared() {
		seen := make([]session.Heartbeat, len(opened))
		for i, s := range opened {
			seen[i] = s.heartbeat()
			s.heartbeats.Add(1)
		}
		h.store(seen)
		return
	}
	open := make([]session.ClosingRecord, 0, len(opened))
	h.keeping.Lock()
	defer h.keeping.Unlock()
	for _, s := range opened {
		if !h.isClosed && !s.flags.has(flagClosed) {
			s.reportedSeen.Store(s.touched())
			open = append(open, s.closingRecord())
		}
	}
	if len(open) > 0 {
		h.onOpen(open)
	}
}

// report stores the heartbeats of one step.
func (h *heartbeatReporter) report(step int) {
	h.keeping.Lock()
	seen, open := h.collect(step)
	if len(open) > 0 && !h.isClosed {
		h.onOpen(open)
	}
	h.keeping.Unlock()
	if len(seen) > 0 {
		h.store(seen)
	}
}

// store stores heartbeats.
func (h *heartbeatReporter) store(seen []session.Heartbeat) {
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
	hasLost := false
	for _, id := range unknown {
		if s := h.table.find(id); s != nil && s.heartbeats.Load() > 1 {
			s.flags.set(flagLost, true)
			hasLost = true
		}
	}
	if hasLost {
		h.lost.ask(h.life, h.storeUnknown)
	}
}

// storeUnknown stores sessions again that the store did not know, at a pace: it may have lost all of them.
func (h *heartbeatReporter) storeUnknown() {
	h.table.each(func(s *Session) bool {
		if !s.flags.has(flagLost) {
			return !h.life.isEnding()
		}
		if !h.pauseReload() {
			return false
		}
		s.flags.set(flagLost, false)
		h.send(s, session.LostInStore{})
		return true
	})
}

// collect returns what was seen in one step since its last heartbeat: heartbeats for a shared store, or what is kept of open
// sessions. It also queues streams for renewal.
func (h *heartbeatReporter) collect(step int) (seen []session.Heartbeat, open []session.ClosingRecord) {
	const width = tableShards / heartbeatSteps
	isShared, reloaded := h.cluster.Shared(), 0
	for i := step * width; i < (step+1)*width; i++ {
		h.table.eachIn(i, func(s *Session) {
			if s.flags.has(flagClosed) || s.opening.Load() != nil {
				return
			}
			h.queueRenewals(s)
			if isShared {
				h.reloadUnsaved(s, &reloaded)
			}
			// The store does not know a viewer who was denied from the start, so nothing expires there.
			reported := s.reportedSeen.Load()
			isKnown := reported != 0 || s.Decision().Verdict == backends.Allowed
			changed := s.changed()
			if !isKnown || changed <= reported {
				return
			}
			switch {
			case isShared:
				seen = append(seen, s.heartbeat())
				s.heartbeats.Add(1)
			case h.onOpen != nil:
				s.reportedSeen.Store(changed)
				open = append(open, s.closingRecord())
			}
		})
	}
	return seen, open
}

// reloadUnsaved looks the session up if the store may lack it, unless many are already: then with the next heartbeat. sent is how many
// this step has looked up.
func (h *heartbeatReporter) reloadUnsaved(s *Session, sent *int) {
	if s.flags.has(flagUnsaved) && *sent < maxReloads && !h.cluster.isBacklogged() {
		*sent++
		h.send(s, session.MustReload{})
	}
}

// queueRenewals queues the session's stream, unless the store learns nothing by that, and its address for renewal.
func (h *heartbeatReporter) queueRenewals(s *Session) {
	if s.stream.Load() != nil && s.flags.has(flagPlaying) && !h.streams.isSilent(s, 2*h.interval) {
		h.streams.queueRenewal(s)
	}
	if s.ticketUse != nil {
		h.addresses.queueRenewal(s)
	}
}

// runExpiry closes expired sessions until the registry closes. A node that has just started does not know whether the others could
// report whom they saw, so it closes none before they had the time to: they close what is over meanwhile. It asks the store all the
// same, by which a node without viewers notices that the store is gone.
func (h *heartbeatReporter) runExpiry() {
	// Another node may have seen a session up to one heartbeat after the last one that the store knows.
	idle := h.idleTimeout + h.interval
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	started := time.Now()
	for {
		select {
		case <-h.life.ctx.Done():
			return
		case <-ticker.C:
		}
		if h.cluster.Shared() && time.Since(started) < idle {
			h.expire(noneIsIdle)
			continue
		}
		for h.expire(idle) > 0 {
		}
	}
}

// expire closes some of the sessions that were not seen for that long, and returns how many; 0 if the store failed, or if their
// records were not kept.
func (h *heartbeatReporter) expire(idle time.Duration) int {
	ctx, cancel := h.cluster.writeContext()
	defer cancel()
	expired, err := h.cluster.ExpireIdle(ctx, idle, maxExpired)
	if idle < 0 {
		h.markStopped(expired)
	}
	// Also with an error: nobody else is told of them before the store returns them again.
	if h.onClosed(expired) != nil && h.cluster.Shared() {
		return 0
	}
	if len(expired) > 0 {
		h.freeStreams(expired)
		h.confirmClosed(expired)
	}
	if err != nil {
		return 0
	}
	return len(expired)
}

// markStopped notes that sessions end because the node stops, if their viewers were still there.
func (h *heartbeatReporter) markStopped(closed []session.ClosingRecord) {
	now := time.Now()
	for i := range closed {
		c := &closed[i]
		c.IsNodeStopped = now.Sub(c.LastSeen) < h.idleTimeout
		if c.LastSeen.After(now) { // at an edge
			c.LastSeen = now
		}
	}
}

// freeStreams frees the streams of sessions that have closed on all nodes.
func (h *heartbeatReporter) freeStreams(closed []session.ClosingRecord) {
	ctx, cancel := h.cluster.writeContext()
	defer cancel()
	var calls errgroup.Group
	calls.SetLimit(maxFreed)
	for i := range closed {
		if closed[i].HasReturned {
			continue
		}
		calls.Go(func() error {
			h.freeStream(ctx, &closed[i])
			return nil
		})
	}
	_ = calls.Wait() // no call fails
}

// confirmClosed has its own timeout: a store that was slow to free the streams would otherwise return all of the sessions again, and
// each would be recorded once more.
func (h *heartbeatReporter) confirmClosed(closed []session.ClosingRecord) {
	ctx, cancel := h.cluster.writeContext()
	defer cancel()
	if err := h.cluster.ConfirmClosed(ctx, closed); err != nil {
		h.log.Debug("closed sessions not confirmed, they are recorded again", slog.Int("sessions", len(closed)), slog.Any("error", err))
	}
}

// freeStream frees the stream of a session that has closed on all nodes.
func (h *heartbeatReporter) freeStream(ctx context.Context, c *session.ClosingRecord) {
	r := c.Record.Request
	if r == nil {
		r = new(backends.Request)
	}
	if u := h.streams.streamOf(r, &c.Record.Decision); u.maxStreams > 0 {
		h.cluster.ReportStreams(ctx, session.StreamEntry{User: u.hash, Session: c.Record.ID, IsLeaving: true})
	}
}

// closeAll closes the open sessions of a node without others, whose store ends with it.
func (h *heartbeatReporter) closeAll() {
	h.keeping.Lock()
	h.isClosed = true
	h.keeping.Unlock()
	stored := 0
	h.table.each(func(s *Session) bool {
		if s.flags.has(flagClosed) || s.opening.Load() != nil || !s.wasAllowed() && !s.flags.has(flagReturned) {
			return true
		}
		c := s.closingRecord()
		if s.wasAllowed() && c.Record.Decision.Source != backends.FromLimit { // otherwise the store has a yes, as of an evicted session
			_, _ = h.cluster.saveDecision(session.DecisionUpdate{Record: c.Record}) // it is in this process
		}
		h.cluster.handOver(s, c.Counters)
		if stored++; stored%maxExpired == 0 { // so that the store need not hold them all
			h.closeRest()
		}
		return true
	})
	h.closeRest()
}

// closeRest closes all sessions that have left a node without others.
func (h *heartbeatReporter) closeRest() {
	if h.cluster.Shared() {
		return
	}
	for h.expire(math.MinInt64) > 0 {
	}
}

const (
	// maxHandOvers is how many sessions are handed over at once: enough to fill the store's pipelines.
	maxHandOvers = 256
	// handOverTimeout bounds the whole hand-over. The counters of the sessions that are left are lost.
	handOverTimeout = 5 * time.Second
)

// handOver stores what this node counted of its sessions, before the registry closes. Without other nodes they close.
func (h *heartbeatReporter) handOver() {
	if !h.cluster.Shared() {
		h.closeAll()
		return
	}
	slots := make(chan struct{}, maxHandOvers)
	var tasks sync.WaitGroup
	end := time.Now().Add(handOverTimeout)
	h.table.each(func(s *Session) bool {
		if s.flags.has(flagClosed) || s.opening.Load() != nil {
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
