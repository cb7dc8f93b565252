package events

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"usher/backends"
	"usher/cluster/redisclient"
)

// Forced holds the orders of operators on breakers that a node knows. Of two on one backend the newer one holds. It is safe for
// concurrent use.
type Forced struct {
	// changed receives when an order was added. It holds one.
	changed chan struct{}

	mu sync.Mutex
	// known has the last order on each backend, also one that has ended: breakers follow none that is older, so the next order needs
	// a higher version even where the clock was set back.
	known map[string]backends.ForcedBreaker
}

// NewForced returns no orders.
func NewForced() *Forced {
	return &Forced{known: make(map[string]backends.ForcedBreaker), changed: make(chan struct{}, 1)}
}

// Add adds an order, and reports whether it is newer than what is known of its backend.
func (f *Forced) Add(now time.Time, order backends.ForcedBreaker) (isNew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, found := f.known[order.Backend]; found && known.Version >= order.Version || !order.Until.After(now) {
		return false
	}
	f.known[order.Backend] = order
	notify(f.changed)
	return true
}

// NextVersion returns a version that is newer than what is known of the backend, by the time in ms.
func (f *Forced) NextVersion(backend string, now int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(now, f.known[backend].Version+1)
}

// All returns the orders that have not ended.
func (f *Forced) All(now time.Time) []backends.ForcedBreaker {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []backends.ForcedBreaker
	for _, order := range f.known {
		if order.Until.After(now) {
			all = append(all, order)
		}
	}
	return all
}

// forcedSync keeps the orders of this node and those in Redis the same: each side gets what is newer on the other one. So a node
// that starts or missed an order has it with its next heartbeat, and a flush loses none while one node that knows it runs.
type forcedSync struct {
	client   *redisclient.Client
	cipher   *redisclient.Cipher
	forced   *Forced
	onForced func(backends.ForcedBreaker)
	log      *slog.Logger

	storeScript *redisclient.Script
	unreadable  sync.Once // logs once
}

func newForcedSync(o Options) *forcedSync {
	return &forcedSync{
		client: o.Client, cipher: o.Cipher, forced: o.Forced, onForced: o.OnForced, log: o.Logger,
		storeScript: redisclient.LoadScript(scripts, "store_forced"),
	}
}

// sync applies what the reply to a heartbeat has that is newer than what this node knows, and stores what is newer here.
func (s *forcedSync) sync(ctx context.Context, h heartbeatReply) error {
	now, stored := time.Now(), make(map[string]int64)
	for i := 0; i+1 < len(h.forced); i += 2 {
		backend := redisclient.Text(h.forced[i])
		order, isCurrent := s.decode(backend, redisclient.Text(h.forced[i+1]), h.ms, now)
		stored[backend] = order.Version
		if isCurrent && s.forced.Add(now, order) {
			s.onForced(order)
		}
	}
	var newer []backends.ForcedBreaker
	for _, order := range s.forced.All(now) {
		if order.Version > stored[order.Backend] {
			newer = append(newer, order)
		}
	}
	return s.store(ctx, s.client.RunDirect, newer...)
}

// store writes orders that Redis lacks.
func (s *forcedSync) store(ctx context.Context, run runScript, orders ...backends.ForcedBreaker) error {
	if len(orders) == 0 {
		return nil
	}
	var args []any
	for _, o := range orders {
		args = append(args, o.Backend, o.Version, redisclient.Millis(time.Until(o.Until)), encodeForced(s.cipher, o))
	}
	_, err := run(ctx, s.storeScript, []string{s.client.Keys().Shared("forced")}, args...)
	return err
}

// forcedMessage is an order as Redis has it.
type forcedMessage struct {
	IsForced bool   `json:"f,omitempty"`
	IsOpen   bool   `json:"o,omitempty"`
	Reason   string `json:"r,omitempty"`
	By       string `json:"b,omitempty"`
}

func encodeForced(cipher *redisclient.Cipher, o backends.ForcedBreaker) []byte {
	m := forcedMessage{IsForced: o.IsForced, IsOpen: o.State == backends.BreakerOpen, Reason: o.Reason, By: o.By}
	return cipher.Encrypt(marshal(m), "forced "+o.Backend)
}

// decode is decodeForced, and logs once what it cannot read.
func (s *forcedSync) decode(backend, value string, ms int64, now time.Time) (order backends.ForcedBreaker, isCurrent bool) {
	order, isCurrent, err := decodeForced(s.cipher, backend, value, ms, now)
	if err != nil {
		s.unreadable.Do(func() {
			s.log.Warn("order on a breaker unreadable, check that all nodes have the same version and cluster.encryption_keys",
				slog.String("backend", backend), slog.Any("error", err))
		})
	}
	return order, isCurrent
}

// maxVersionAhead is how far in the future an order's version may be: it is the time of the order, by the store's clock or by that
// of a node which did not know the store's. The store does not encrypt it; no order could follow one that were too high.
// store_forced.lua has the same bound.
const maxVersionAhead = 24 * time.Hour

var errVersionAhead = fmt.Errorf("more than %v ahead of the store's clock", maxVersionAhead)

// decodeForced returns what is stored of a backend, with its version alone if it cannot be used. The time is that of the clock
// that it was stored by, in ms, and this node's.
func decodeForced(
	cipher *redisclient.Cipher, backend, value string, ms int64, now time.Time,
) (order backends.ForcedBreaker, isCurrent bool, err error) {
	version, rest, _ := strings.Cut(value, " ")
	until, encrypted, _ := strings.Cut(rest, " ")
	order.Version, _ = strconv.ParseInt(version, 10, 64)
	ends, _ := strconv.ParseInt(until, 10, 64)
	if ends <= ms || ms < 0 {
		return order, false, nil
	}
	if order.Version > 0 && order.Version-ms > maxVersionAhead.Milliseconds() {
		return backends.ForcedBreaker{}, false, fmt.Errorf("version %d at %d, both in ms: %w", order.Version, ms, errVersionAhead)
	}
	var m forcedMessage
	plain, err := cipher.Decrypt([]byte(encrypted), "forced "+backend)
	if err == nil {
		err = json.Unmarshal(plain, &m)
	}
	if err != nil {
		return order, false, err
	}
	order.Backend, order.IsForced, order.Reason, order.By = backend, m.IsForced, m.Reason, m.By
	if m.IsOpen {
		order.State = backends.BreakerOpen
	}
	order.Until = now.Add(redisclient.Duration(ends - ms))
	return order, true, nil
}

// StoreForced writes an order that this node has applied. With an error, that happens when Redis has recovered.
func (b *Broker) StoreForced(ctx context.Context, order backends.ForcedBreaker) error {
	return b.forced.store(ctx, b.client.Run, order)
}

// Time returns the time in ms of Redis' clock, or of this node's if there was no reply yet.
func (b *Broker) Time() int64 {
	if ms, isKnown := b.registry.clock.Now(); isKnown {
		return ms
	}
	return time.Now().UnixMilli()
}
