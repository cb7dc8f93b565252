package httpbackend_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"

	"usher/backends"
	"usher/backends/httpbackend"
)

// portal is an adapter to a middleware that answers by status and headers: 200 allows, 403 denies.
type portal struct{ *httpbackend.Client }

var _ backends.Backend = portal{}

// newPortal returns the named backend. deps holds what the program gives every adapter.
func newPortal(name string, cfg httpbackend.Config, deps httpbackend.Deps) (portal, error) {
	client, err := httpbackend.NewClient(name, cfg, deps)
	if err != nil {
		return portal{}, fmt.Errorf("make backend %q: %w", name, err)
	}
	return portal{client}, nil
}

// Check asks the middleware about one viewer.
func (p portal) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return p.Decide(ctx, httpbackend.Call{
		Query:       r.Query,
		Parameters:  []httpbackend.Parameter{{Name: "channel", Value: r.Channel}, {Name: "check", Value: strconv.Itoa(r.Number)}},
		Header:      httpbackend.AstraHeaders(r),
		Credentials: r.Headers,
	})
}

// A new adapter embeds the client and builds a Call. The viewer's own "channel" does not reach the middleware.
func Example() {
	middleware := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("middleware:", r.URL.RawQuery)
		if r.URL.Query().Get("token") != "good" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("X-UserId", "42")
		w.Header().Set("X-AuthDuration", "180")
	}))
	defer middleware.Close()

	cfg := httpbackend.DefaultConfig()
	cfg.Address = middleware.URL + "/check?site=north"
	backend, err := newPortal("portal", cfg, httpbackend.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer backend.Close()

	for _, query := range []string{"token=good&channel=free", "token=stolen"} {
		d, err := backend.Check(context.Background(), &backends.Request{Channel: "sports", Query: query})
		fmt.Printf("%s by %s, user %q for %s, error %v\n", d.Verdict, d.Source, d.UserID, d.ValidFor, err)
	}
	middleware.Close()
	_, err = backend.Check(context.Background(), &backends.Request{Channel: "sports", Query: "token=good"})
	fmt.Println("failure:", backends.AsFailure(err).Kind)
	// Output:
	// middleware: site=north&channel=sports&check=0&token=good
	// allowed by backend, user "42" for 3m0s, error <nil>
	// middleware: site=north&channel=sports&check=0&token=stolen
	// denied by backend, user "" for 0s, error <nil>
	// failure: transport
}
