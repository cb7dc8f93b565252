package main

import (
	"context"
	"time"

	"usher/backends"
	"usher/backends/chain"
	"usher/gateway/admin/breakers"
)

// nodeBreakers are the breakers of a node as its admin listener and the other nodes see them.
type nodeBreakers struct{ *node }

// HasBreaker implements [breakers.Node].
func (n nodeBreakers) HasBreaker(backend string) error {
	switch c := n.chains[backend]; {
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
	c := n.chains[backend]
	if c == nil {
		return backends.Decision{}, 0, breakers.ErrUnknownBackend
	}
	return c.Probe(ctx)
}

// onForced applies an order on a breaker to this node's. Another node may have backends that this one has not.
func (n *node) onForced(order backends.ForcedBreaker) {
	if c := n.chains[order.Backend]; c != nil {
		_ = c.Force(order)
	}
}
