package actors

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Cluster is the store of sessions and the other nodes that share it. A node without others has one too. It is safe for
// concurrent use.
type Cluster interface {
	sessionStore
	heartbeatStore
	streamStore

	// Shared reports whether other nodes use the store. Then decisions are stored when they are taken, and one node checks
	// a session for all. Otherwise a session is stored when it ends.
	Shared() bool
	// InMemory reports that the store is this node's own memory, so that no method waits.
	InMemory() bool
	// Live returns how many nodes live, this one included. It does not block.
	Live() int
	// UserHash returns the name of a user that the other nodes know too.
	UserHash(user string) string
	// ViewerKey returns the number by which all nodes know what a viewer shows.
	ViewerKey(shown []byte) uint64
	// ShareKnown tells the other nodes that the viewer of that key was allowed. It does not block.
	ShareKnown(key uint64)
	// Banned returns the ban that the viewer is under, if any. The decision may be nil. It does not block.
	Banned(r *backends.Request, d *backends.Decision) (ban session.Ban, isBanned bool)
	// AwaitBans waits until this node knows what all live nodes know of bans. The error is ErrStoreUnavailable, when nothing
	// can be known, or that of ctx.
	AwaitBans(ctx context.Context) error
	// BanCredentials bans the credentials that viewers of banned users presented, each until the user's ban ends.
	BanCredentials(ctx context.Context, presented iter.Seq2[session.Ban, *backends.Request]) error
	// Revoke announces a revocation to all nodes.
	Revoke(ctx context.Context, v session.Revocation) error
}

// sessionStore keeps sessions beyond the life of their actors. A method may take a round trip.
type sessionStore interface {
	// AcquireLease reads a session, or grants this node the right to check it.
	AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error)
	// SaveDecision stores a decision and releases the lease under which it was taken.
	SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error)
	// AddCounters adds what this node counted of a session.
	AddCounters(ctx context.Context, id backends.SessionID, c session.Counters) error
}

// heartbeatStore keeps when sessions were last seen on any node.
type heartbeatStore interface {
	// RecordHeartbeats stores when sessions were last seen, and returns those that the store does not know.
	RecordHeartbeats(ctx context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error)
	// ExpireIdle closes up to about limit sessions that no node has seen for the given time. Over all nodes it returns each of
	// them once, or again after a while until it is confirmed: with an error too, those that it has closed.
	ExpireIdle(ctx context.Context, idle time.Duration, limit int) ([]session.ClosingRecord, error)
	// ConfirmClosed tells that the closing records are kept elsewhere.
	ConfirmClosed(ctx context.Context, closed []session.ClosingRecord) error
}

// streamStore counts the streams of each user over all nodes.
type streamStore interface {
	// ReportStreams reports streams of one user, at least one. Unknown ones join. It does not fail.
	ReportStreams(ctx context.Context, entries ...session.StreamEntry) session.LimitResult
	// ReportAddresses reports addresses that use one ticket, which is the entries' user. A new one beyond the limit does not
	// join, and is evicted. It does not fail.
	ReportAddresses(ctx context.Context, entries ...session.StreamEntry) session.LimitResult
	// SetEvicted marks the session as evicted, or removes the mark.
	SetEvicted(ctx context.Context, id backends.SessionID, isEvicted bool) error
	// RevokeSession refuses the session's tickets that were opened at that time or before.
	RevokeSession(ctx context.Context, id backends.SessionID, opened time.Time) error
}

// clusterClient bounds the calls that this node makes to its cluster, and logs those that fail. It is safe for concurrent
// use.
type clusterClient struct {
	Cluster
	life    *lifecycle
	log     *slog.Logger
	denials denialBudget
	// openings and reloads are how many sessions are being looked up for which a viewer waits, and for which neither a viewer nor a
	// slot does. saves and restores are how many are being stored, because of what was decided or because the store has lost them.
	openings, reloads, saves, restores atomic.Int32
}

// maxReloads is how many sessions are looked up for which nobody waits, or stored that were lost, before others of these wait: enough
// to keep the store busy.
const maxReloads = 256

// writeTimeout bounds a write to the store that no viewer waits for. A closed session stays findable until it is stored.
const writeTimeout = 2 * time.Second

// writeContext returns the context of a write to the store. It outlives the registry: a denial just before a restart must be
// known after it.
func (c *clusterClient) writeContext() (context.Context, context.CancelFunc) {
	return c.until(context.WithoutCancel(c.life.ctx), time.Now().Add(writeTimeout))
}

// isBacklogged reports whether another such look-up or write would wait behind many for the store. What viewers and re-checks cause
// does not count: there may always be as much of it.
func (c *clusterClient) isBacklogged() bool { return c.reloads.Load()+c.restores.Load() >= maxReloads }

// StoreCalls returns how many sessions are being looked up in the store, and how many stored: for an opening, a re-check, what the
// store may know better, and a decision.
func (r *Registry) StoreCalls() map[string]int {
	c, rechecks := r.cluster, 0
	for _, b := range r.backends.Load().byName {
		rechecks += int(b.rechecks.lookups.Load())
	}
	return map[string]int{
		"opening": int(c.openings.Load()), "recheck": rechecks, "reload": int(c.reloads.Load()), "save": int(c.saves.Load() + c.restores.Load()),
	}
}

// until returns a context for calls to the store that ends at that time, if any of them waits.
func (c *clusterClient) until(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	if c.InMemory() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline)
}

// saveDecision writes to the store. The store logs its own outage, once.
func (c *clusterClient) saveDecision(u session.DecisionUpdate) (session.UpdateOutcome, error) {
	ctx, cancel := c.writeContext()
	defer cancel()
	return c.SaveDecision(ctx, u)
}

// announce sends a revocation to the other nodes.
func (c *clusterClient) announce(v session.Revocation) {
	ctx, cancel := c.writeContext()
	defer cancel()
	if err := c.Revoke(ctx, v); err != nil {
		c.log.Warn("revocation not announced, other nodes learn of it at their next look-up",
			slog.String("session", v.Session.String()), slog.String("kind", v.Kind.String()), slog.Any("error", err))
	}
}

// handOver stores what this node knows of a session that leaves it, once: sessions go on, and may close, while the node that ends hands
// them over.
func (c *clusterClient) handOver(s *Session, counters session.Counters) {
	if !s.flags.add(flagHandedOver) {
		return
	}
	ctx, cancel := c.writeContext()
	defer cancel()
	if err := c.AddCounters(ctx, s.id, counters); err != nil {
		c.log.Debug("session counters not stored", slog.String("session", s.id.String()), slog.Any("error", err))
	}
	if _, err := c.RecordHeartbeats(ctx, []session.Heartbeat{s.heartbeat()}); err != nil {
		c.log.Debug("last heartbeat not stored", slog.String("session", s.id.String()), slog.Any("error", err))
	}
}

// markEvicted marks a session as evicted. It does not end with ctx.
func (c *clusterClient) markEvicted(ctx context.Context, id backends.SessionID) {
	if err := c.SetEvicted(context.WithoutCancel(ctx), id, true); err != nil {
		c.log.Debug("eviction not stored", slog.String("session", id.String()), slog.Any("error", err))
	}
}

// maxStoredDenials is how many denials of unknown viewers are stored per second, so that a flood of random tokens does not
// become a flood of writes. Beyond that each node checks such a viewer once.
const maxStoredDenials = 200

// denialBudget allows maxStoredDenials in each second. Its zero value is ready; it is safe for concurrent use.
type denialBudget struct {
	mu     sync.Mutex
	second time.Time // when the current second began
	used   int
	// refused is how many denials were not stored.
	refused atomic.Uint64
}

func (b *denialBudget) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.second) >= time.Second {
		b.second, b.used = now, 0
	}
	b.used++
	if b.used > maxStoredDenials {
		b.refused.Add(1)
		return false
	}
	return true
}
