package actors

import "sync/atomic"

// stats counts how often a session entered each phase.
type stats struct {
	entered [closed + 1]atomic.Int64
}

func (r *Registry) count(_, to phase) { r.stats.entered[to].Add(1) }
