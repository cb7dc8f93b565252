package cluster

import (
	"context"
	"time"

	"usher/backends"
)

// ForceBreaker applies an operator's order on a breaker to this node, stores it for the others, and returns it with its
// version. With ErrStoreUnavailable, or ctx's error, the others get it when Redis has recovered.
func (n *Node) ForceBreaker(ctx context.Context, order backends.ForcedBreaker) (backends.ForcedBreaker, error) {
	now := time.Now().UnixMilli()
	if n.broker != nil {
		now = n.broker.Time()
	}
	order.Version = n.forced.NextVersion(order.Backend, now)
	n.ApplyForced(order)
	if n.broker == nil {
		return order, nil
	}
	return order, n.broker.StoreForced(ctx, order)
}

// ApplyForced applies an order of another node to this one, unless it knows a newer one.
func (n *Node) ApplyForced(order backends.ForcedBreaker) {
	if n.forced.Add(time.Now(), order) {
		n.onForced(order)
	}
}

func (n *Node) onForced(order backends.ForcedBreaker) {
	if f := n.handlers.Load().OnForced; f != nil {
		f(order)
	}
}

// ForcedBreakers returns the orders on breakers that hold.
func (n *Node) ForcedBreakers() []backends.ForcedBreaker { return n.forced.All(time.Now()) }
