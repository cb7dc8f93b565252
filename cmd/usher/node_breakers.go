package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"usher/backends"
	"usher/backends/callstats"
	"usher/backends/chain"
	"usher/backends/httpbackend"
	"usher/gateway/admin"
	"usher/gateway/admin/breakers"
)

// nodeBreakers are the breakers of a node as its admin listener and the other nodes see them.
type nodeBreakers struct{ *node }

// HasBreaker implements [breakers.Node].
func (n nodeBreakers) HasBreaker(backend string) error {
	switch c := n.current.Load().chains[backend]; {
	case c == nil:
		return breakers.ErrUnknownBackend
	case c.Breaker == nil:
		return chain.ErrNoBreaker
	}
	return nil
}

// ApplyForced implements [breakers.Node].
func (n nodeBreakers) ApplyForced(order backends.ForcedBreaker) { n.cluster.ApplyForced(order) }

// Probe implements [breakers.Node].
func (n nodeBreakers) Probe(ctx context.Context, backend string) (backends.Decision, time.Duration, error) {
	c := n.current.Load().chains[backend]
	if c == nil {
		return backends.Decision{}, 0, breakers.ErrUnknownBackend
	}
	return c.Probe(ctx)
}

// onForced applies an order on a breaker to this node's. Another node may have backends that this one has not.
func (n *node) onForced(order backends.ForcedBreaker) {
	if c := n.current.Load().chains[order.Backend]; c != nil {
		_ = c.Force(order)
	}
}

// forceAgain applies the orders that hold on breakers to those that a reload puts in their place.
func (n *node) forceAgain(g *generation) {
	for _, order := range n.cluster.ForcedBreakers() {
		if c := g.chains[order.Backend]; c != nil {
			_ = c.Force(order)
		}
	}
}

// newCallStats returns the statistics of a backend with these alarms.
func newCallStats(alarms *httpbackend.Alarms) *callstats.Stats {
	return callstats.New(callstats.Alarm{
		Begin: func(now time.Time, detail string) { alarms.Raise(now, backends.AlarmDenialsJumped, detail) },
		End:   func() { alarms.End(backends.AlarmDenialsJumped) },
	})
}

// onCall returns a function that is told of each call of a backend.
func (n *node) onCall(backend string, stats *callstats.Stats) func(r *backends.Request, d backends.Decision, err error, took time.Duration) {
	record := n.recorder.OnCall(backend)
	return func(r *backends.Request, d backends.Decision, err error, took time.Duration) {
		record(d, err, took)
		stats.RecordCall(time.Now(), r, d, err)
	}
}

// onBreaker returns a function that is told of each state of a backend's breaker. The overview shows these states once it serves by
// the generation.
func (n *node) onBreaker(g *generation, backend string) func(backends.BreakerState) {
	record, shown := n.recorder.OnBreaker(backend)
	stats := g.stats[backend]
	g.breakers[backend] = shown
	return func(s backends.BreakerState) {
		record(s)
		stats.RecordState(time.Now(), s)
	}
}

// addStats adds to a backend of the API what is known of its calls.
func addStats(b *admin.Backend, s callstats.Snapshot) {
	b.Rates = &admin.BackendRates{ChecksPerSecond: s.Checks, FailuresPerSecond: s.Failures, DenialsShare: s.DenialsShare}
	for _, f := range s.LastFailures {
		b.LastFailures = append(b.LastFailures, admin.BackendFailure{Time: f.Time.UTC(), Outcome: f.Kind.String(), Error: f.Error})
	}
	for _, c := range s.History {
		b.History = append(b.History, admin.BreakerChange{Time: c.Time.UTC(), State: c.State.String()})
	}
}

// adviceOn returns what an operator can do about an alarm, with the detail of which the advice speaks.
func adviceOn(alarms *httpbackend.Alarms, a backends.Alarm) string {
	return fmt.Sprintf("%s (detail: %s)", a.Advice(), alarms.Detail(a))
}

// warnings returns what an operator should act on, for /readyz?verbose.
func (n *node) warnings() []string {
	all, g := n.viewers.warnings(), n.current.Load()
	for _, name := range slices.Sorted(maps.Keys(g.adapters)) {
		alarms := g.adapters[name].alarms
		if alarms == nil {
			continue
		}
		for _, a := range backends.AllAlarms() {
			if alarms.Active().Has(a) {
				all = append(all, fmt.Sprintf("backend %q violates its contract, %s: %s", name, a, adviceOn(alarms, a)))
			}
		}
		if order := g.chains[name].Forced(); order.IsForced {
			all = append(all, fmt.Sprintf("backend %q is forced %s by an operator until %s: %s",
				name, order.State, order.Until.UTC().Format(time.RFC3339), order.Reason))
		}
	}
	return all
}
