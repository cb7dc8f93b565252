package flussonic

import (
	"context"
	"fmt"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
	"usher/backends/httpbackend/flussonicquery"
)

// Backend checks viewers with one middleware. Safe for concurrent use.
type Backend struct {
	*httpbackend.Client
	viewerCount func(channel string) (ofChannel, all int)
	autoToken   bool
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid or a file named in it cannot be read.
func New(name string, cfg Config, deps httpbackend.Deps) (*Backend, error) {
	client, err := httpbackend.NewClient(name, cfg.HTTP, deps)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return &Backend{Client: client, viewerCount: deps.ViewerCount, autoToken: cfg.AutoToken}, nil
}

// Check checks one viewer.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return b.checkAt(ctx, r, time.Now())
}

// DecideWithoutCall denies a viewer without a token, unless they get one.
func (b *Backend) DecideWithoutCall(r *backends.Request) (d backends.Decision, isDecided bool) {
	if b.autoToken || httpbackend.QueryValue(r.Query, "token") != "" {
		return backends.Decision{}, false
	}
	return backends.LocalDecision(backends.Denied, "no token, and auto_token is false"), true
}

func (b *Backend) checkAt(ctx context.Context, r *backends.Request, now time.Time) (backends.Decision, error) {
	if d, isDecided := b.DecideWithoutCall(r); isDecided {
		return d, nil
	}
	token := httpbackend.QueryValue(r.Query, "token")
	if token == "" {
		token = r.Session.UUID()
	}
	return b.Decide(ctx, httpbackend.Call{Parameters: b.parameters(r, token, now), Credentials: r.Headers})
}

// parameters returns the call's parameters.
func (b *Backend) parameters(r *backends.Request, token string, now time.Time) []httpbackend.Parameter {
	return flussonicquery.Parameters(r, token, b.viewerCount, now)
}
