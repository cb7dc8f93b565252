package iptvportal

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
	"usher/backends/httpbackend/flussonicquery"
)

// Backend checks viewers with one portal. Safe for concurrent use.
type Backend struct {
	*httpbackend.Client
	asFlussonic bool
	viewerCount func(channel string) (ofChannel, all int)
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid or a file named in it cannot be read.
func New(name string, cfg Config, deps httpbackend.Deps) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	client, err := httpbackend.NewClient(name, cfg.withEndpoint(), deps)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return &Backend{Client: client, asFlussonic: cfg.usesFlussonic(), viewerCount: deps.ViewerCount}, nil
}

// Check checks one viewer.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	if b.asFlussonic {
		return b.Decide(ctx, b.flussonicCall(r, time.Now()))
	}
	return b.Decide(ctx, httpbackend.Call{
		Query:       r.Query,
		Header:      httpbackend.AstraHeaders(r),
		Credentials: r.Headers,
	})
}

// flussonicCall returns the call that Flussonic makes for the viewer. Of a viewer without a token it makes one up.
func (b *Backend) flussonicCall(r *backends.Request, now time.Time) httpbackend.Call {
	token := cmp.Or(httpbackend.QueryValue(r.Query, "token"), r.Session.UUID())
	return httpbackend.Call{
		Parameters:  flussonicquery.Parameters(r, token, b.viewerCount, now),
		Credentials: r.Headers,
	}
}
