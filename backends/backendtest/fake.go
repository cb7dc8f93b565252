package backendtest

import (
	"context"
	"slices"
	"sync"

	"usher/backends"
)

// Fake is a backend in memory. The zero value lets everybody in. Safe for concurrent use once it is in use.
type Fake struct {
	// CheckFunc answers; nil lets everybody in.
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

// Calls is how often it was asked.
func (f *Fake) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// Requests is what it was asked, in order.
func (f *Fake) Requests() []backends.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}
