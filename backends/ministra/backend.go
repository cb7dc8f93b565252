package ministra

import (
	"context"
	"fmt"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Backend checks viewers with one portal. Safe for concurrent use.
type Backend struct{ *httpbackend.Client }

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid or a file named in it cannot be read.
func New(name string, cfg Config, deps httpbackend.Deps) (*Backend, error) {
	client, err := httpbackend.NewClient(name, cfg.withEndpoint(), deps)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return &Backend{client}, nil
}

// Check checks one viewer.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return b.Decide(ctx, httpbackend.Call{
		Query:       r.Query,
		Header:      httpbackend.AstraHeaders(r),
		Credentials: r.Headers,
		IsBodyless:  true,
	})
}
