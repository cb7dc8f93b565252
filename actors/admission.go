package actors

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"usher/actors/session"
	"usher/backends"
)

// sessionOpener creates sessions within the node's bounds, and lets viewers wait for the first decision. It is safe for
// concurrent use.
type sessionOpener struct {
	core
	config    atomic.Pointer[Config]
	rate      atomic.Pointer[openRate] // by address
	addresses *addressLimit
	sequence  atomic.Uint64 // of the newest session
	pending   atomic.Int64  // requests that wait for a first decision
}

func newSessionOpener(c core, config Config, addresses *addressLimit) *sessionOpener {
	o := &sessionOpener{core: c, addresses: addresses}
	o.follow(config)
	return o
}

// follow sets the bounds. If the rate of addresses changes, what they have opened is forgotten.
func (o *sessionOpener) follow(c Config) {
	o.config.Store(&c)
	next := newOpenRate(time.Now(), c.OpenRatePerAddress, c.OpenBurstPerAddress)
	if r := o.rate.Load(); r == nil || r.interval != next.interval || r.burst != next.burst {
		o.rate.Store(next)
	}
}

// findOrCreate returns the session, and starts it if there is none yet.
func (o *sessionOpener) findOrCreate(ctx context.Context, b *backendRuntime, r session.OpenRequest) (*Session, error) {
	if !o.life.lock() {
		return nil, ErrClosed
	}
	defer o.life.unlock()
	var overload error // only a request that creates a session counts
	s, isNew := o.table.findOrAdd(r.Request.Session, func() *Session {
		if overload = o.admit(r); overload != nil {
			return nil
		}
		return o.spawn(b, r)
	})
	if isNew {
		// Only now, because an actor that panics looks for itself in the table.
		o.actors.send(s, sessionCreated{session: s, span: trace.SpanContextFromContext(ctx)})
	}
	return s, overload
}

// admit refuses a new session beyond the bounds of the node, of the viewer's address or of their ticket. A ticket passes the
// address's bound where it was issued: after a restart all viewers of a node come with one at once, perhaps behind one
// address.
func (o *sessionOpener) admit(r session.OpenRequest) error {
	now, isSibling, config := time.Now(), !r.Root.IsZero(), o.config.Load()
	switch {
	case o.table.len() >= config.Max:
		return backends.NewOverload("sessions.max", config.Max)
	case (r.Ticket.IsZero() || isSibling) && !o.rate.Load().allowAddress(r.Request.Address, now):
		return backends.NewOverload("sessions.open_rate_per_address", config.OpenRatePerAddress)
	case isSibling:
		return o.addresses.allowNew(r.Root, now)
	}
	return nil
}

// spawn makes the session and its actor.
func (o *sessionOpener) spawn(b *backendRuntime, r session.OpenRequest) *Session {
	s := &Session{
		id: r.Request.Session, began: int64(time.Since(b.policy.Start)), sequence: o.sequence.Add(1), extraLifetime: r.ExtraLifetime,
		ticketUse: newTicketUse(&r, o.config.Load().MaxAddresses),
	}
	s.backend.Store(b)
	s.opening.Store(&pendingOpening{done: make(chan struct{}), began: time.Now(), ticket: r.Ticket})
	s.request.Store(r.Request)
	s.hasCredentials.Store(r.HasCredentials)
	s.lastSeen.Store(int64(time.Since(b.policy.Start)))
	ref, err := o.actors.spawn(s.actorName())
	if err != nil {
		// Impossible: the name holds a sequence number.
		o.log.Error("BUG: session actor not started", slog.String("session", s.id.String()), slog.Any("error", err))
	}
	s.ref = ref
	o.life.actors.Add(1)
	return s
}

// policyTimeout bounds how long an actor may take to apply the outage policy once the answer deadline is over, so that a
// broken actor holds no viewer.
const policyTimeout = time.Second

// await waits for the session's first decision until the backend's answer deadline. Then the outage policy decides.
func (o *sessionOpener) await(ctx context.Context, b *backendRuntime, s *Session) error {
	opening := s.opening.Load()
	if opening == nil {
		return nil
	}
	defer o.pending.Add(-1)
	if n, most := o.pending.Add(1), o.config.Load().MaxPending; n > int64(most) {
		return backends.NewOverload("sessions.max_pending", most)
	}
	timer := time.NewTimer(b.answerDeadline)
	defer timer.Stop()
	for isOverdue := false; ; isOverdue = true {
		select {
		case <-opening.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-o.life.ctx.Done():
			return ErrClosed
		case <-timer.C:
			if isOverdue {
				return b.answerOverdue()
			}
			o.actors.send(s, viewerWaited{})
			timer.Reset(policyTimeout)
		}
	}
}

// openRateCells bounds the memory of openRate to 512 kB, however many keys there are. Keys that share a cell share its rate.
// Each process has its own seed, so that no viewer can choose an address that shares the cell of another.
const openRateCells = 1 << 16

// openRate limits how many sessions an address or a ticket may open, by the generic cell rate algorithm with one word per
// cell. It is safe for concurrent use.
type openRate struct {
	seed     maphash.Seed
	epoch    time.Time // cells count from it by the monotonic clock, so that a clock set back blocks no address
	interval int64     // nanoseconds between two openings in the long run
	burst    int64     // nanoseconds of interval that may be saved up
	cells    []atomic.Int64
}

func newOpenRate(start time.Time, perSecond, burst int) *openRate {
	return newRate(start, time.Second/time.Duration(perSecond), burst)
}

func newRate(start time.Time, interval time.Duration, burst int) *openRate {
	return &openRate{
		seed:     maphash.MakeSeed(),
		epoch:    start,
		interval: int64(interval),
		burst:    int64(interval) * int64(burst),
		cells:    make([]atomic.Int64, openRateCells),
	}
}

// allowAddress reports whether the address may open one more session at now, and counts it.
func (r *openRate) allowAddress(address netip.Addr, now time.Time) bool {
	return r.allow(maphash.Comparable(r.seed, backends.SubscriberPrefix(address)), now)
}

// allow reports whether the key of that hash may open one more session at now, and counts it.
func (r *openRate) allow(hash uint64, now time.Time) bool {
	cell := &r.cells[hash%openRateCells]
	for {
		at := int64(now.Sub(r.epoch))
		due := cell.Load()
		next := max(due, at) + r.interval
		if next-at > r.burst {
			return false
		}
		if cell.CompareAndSwap(due, next) {
			return true
		}
	}
}
