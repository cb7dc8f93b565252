package rig

import (
	"context"
	"errors"
	"fmt"
	"os"

	"usher/bench/result"
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
	for _, url := range e.Metrics {
		if err := e.checkMetrics(ctx, url); err != nil {
			return nil, err
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

// checkMetrics reports metrics that are none of Usher's, or that nobody may read.
func (e *External) checkMetrics(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := readMetrics(ctx, url, e.Token); err != nil {
		return fmt.Errorf("--metrics=%s: %s", result.HideCredentials(url), result.HideCredentials(err.Error()))
	}
	return nil
}

// errUnasked is wrapped by Unasked's error.
var errUnasked = errors.New("no server of yours asked it")

// Unasked returns an error if the operator's servers have asked nothing of a server that the harness runs for them: what it counts, and
// its faults, then say nothing of theirs.
func (g *Rig) Unasked() error {
	if g.external == nil {
		return nil
	}
	var errs []error
	if g.Middleware != nil && g.Middleware.Calls() == 0 {
		errs = append(errs, fmt.Errorf("--middleware=%s: %w", g.external.Middleware, errUnasked))
	}
	if g.origin != nil && g.fetches.Load() == 0 {
		errs = append(errs, fmt.Errorf("--origin=%s: %w", g.external.Origin, errUnasked))
	}
	return errors.Join(errs...)
}
