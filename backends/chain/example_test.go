package chain_test

import (
	"context"
	"errors"
	"fmt"

	"usher/backends"
	"usher/backends/chain"
)

// A chain wraps any backend. When the backend cannot be reached, the outage policy decides: under allow an unknown viewer
// is admitted, and a playing viewer keeps their decision.
func Example() {
	isUp := true
	middleware := backends.BackendFunc(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
		switch {
		case !isUp:
			return backends.Decision{}, &backends.Failure{
				Kind: backends.FailureTransport, Backend: "portal", Err: errors.New("connection refused"),
			}
		case r.Query != "token=good":
			return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "unknown token"}, nil
		}
		return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, User: "alice"}, nil
	})
	cfg := chain.DefaultConfig()
	cfg.OnFailure = backends.PolicyAllow
	portal := chain.New("portal", cfg, middleware, chain.Deps{Kind: "example"})

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- portal.Run(ctx) }()

	check := func(viewer string, r *backends.Request) backends.Decision {
		d, err := portal.Check(ctx, r)
		if err != nil {
			fmt.Println(viewer+":", err)
			return d
		}
		fmt.Println(viewer+":", d.Verdict, "by", d.Source)
		return d
	}
	alice := check("alice", &backends.Request{Query: "token=good"})
	check("mallory", &backends.Request{Query: "token=stolen"})

	isUp = false
	for range cfg.Breaker.ConsecutiveFailures {
		check("alice, re-checked", &backends.Request{Query: "token=good", Number: 1, IsRecheck: true, Current: alice})
	}
	fmt.Println("breaker:", portal.State())
	check("bob, unknown", &backends.Request{Query: "token=stolen"})

	stop()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
	// Output:
	// alice: allowed by backend
	// mallory: denied by backend
	// alice, re-checked: allowed by cached
	// alice, re-checked: allowed by cached
	// alice, re-checked: allowed by cached
	// alice, re-checked: allowed by cached
	// alice, re-checked: allowed by cached
	// breaker: open
	// bob, unknown: allowed by fail-open
}
