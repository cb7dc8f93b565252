package backendtest

import (
	"context"
	"slices"
	"sync"

	"usher/backends"
)

// Fake is a backend in memory. The zero value allows every viewer. Safe for concurrent use after its setup.
type Fake struct {
	// CheckFunc answers; nil allows every viewer.
	CheckFunc func(ctx context.Context, r *backends.Request) (backends.Decision, error)

	mu       sync.Mutex
	requests []backends.Request
}

var _ backends.Backend = (*Fake)(nil)

// Check records the request and answers.
func (f *Fake) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	f.mu.Lock()
	f.requests = append(f.requests, *r)
	f.mu.Unlock()
	if f.CheckFunc == nil {
		return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, nil
	}
	return f.CheckFunc(ctx, r)
}

// Calls returns how many checks it got.
func (f *Fake) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// Requests returns the checks, in order.
func (f *Fake) Requests() []backends.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}
