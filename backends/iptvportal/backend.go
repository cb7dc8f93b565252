package iptvportal

import (
	"context"
	"fmt"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Backend asks one portal. Safe for concurrent use.
type Backend struct{ *httpbackend.Client }

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong or a file that it names cannot be read.
func New(name string, cfg Config, parts httpbackend.Deps) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	client, err := httpbackend.NewClient(name, cfg.withEndpoint(), parts)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return &Backend{client}, nil
}

// Check asks about one viewer.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return b.Decide(ctx, httpbackend.Call{
		Query:       r.Query,
		Header:      httpbackend.AstraHeaders(r),
		Credentials: r.Headers,
	})
}
