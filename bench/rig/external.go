package rig

import (
	"context"
	"fmt"
	"os"
)

// External are servers that the operator runs, and what the harness may run for them.
type External struct {
	// URLs are the base URLs of the servers. AuthPath is where edges ask them.
	URLs     []string
	AuthPath string
	// Metrics are the URLs of metrics of Usher's nodes, and Token a bearer token for them; empty: none.
	Metrics []string
	Token   string
	// PIDs are processes on this machine to measure.
	PIDs []int
	// Middleware and Origin are addresses on which the harness runs these; empty: the operator runs them.
	Middleware, Origin string
}

// Start starts what the harness is to run for the operator's servers.
func (e External) Start(ctx context.Context, o Options) (_ *Rig, err error) {
	g := &Rig{options: o, external: &e}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	for _, pid := range e.PIDs {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
			return nil, fmt.Errorf("--pid=%d: no such process", pid)
		}
	}
	if e.Middleware != "" {
		if err := g.startMiddleware(e.Middleware); err != nil {
			return nil, fmt.Errorf("--middleware=%s: %w", e.Middleware, err)
		}
	}
	if e.Origin != "" {
		if _, err := g.startOrigin(ctx, e.Origin); err != nil {
			return nil, fmt.Errorf("--origin=%s: %w", e.Origin, err)
		}
	}
	return g, nil
}
