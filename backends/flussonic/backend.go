package flussonic

import (
	"context"
	"fmt"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Backend asks one middleware. Safe for concurrent use.
type Backend struct {
	*httpbackend.Client
	audience  func(channel string) (ofChannel, all int)
	autoToken bool
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong or a file that it names cannot be read.
func New(name string, cfg Config, parts httpbackend.Deps) (*Backend, error) {
	client, err := httpbackend.NewClient(name, cfg.HTTP, parts)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{Client: client, audience: parts.ViewerCount, autoToken: cfg.AutoToken}
	if b.audience == nil {
		b.audience = func(string) (int, int) { return 0, 0 }
	}
	return b, nil
}

// Check asks about one viewer.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return b.checkAt(ctx, r, time.Now())
}

func (b *Backend) checkAt(ctx context.Context, r *backends.Request, now time.Time) (backends.Decision, error) {
	token := httpbackend.QueryValue(r.Query, "token")
	switch {
	case token != "":
	case b.autoToken:
		token = r.Session.UUID()
	default:
		return backends.Decision{
			Verdict: backends.Denied, Source: backends.FromLocal, Reason: "no token, and auto_token is false",
		}, nil
	}
	return b.Decide(ctx, httpbackend.Call{Parameters: b.facts(r, token, now), Credentials: r.Headers})
}
