// Stage runs the demo's origin and middleware without a gateway, for deploy/local-cluster.sh:
//
//	stage --origin 127.0.0.1:18001 --middleware 127.0.0.1:18002
//
// The middleware allows the tokens alice, bob and carol.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"usher/backends/backendtest"
	"usher/bench/stage"
)

func main() {
	origin := flag.String("origin", "127.0.0.1:18001", "the `address` of the origin")
	middleware := flag.String("middleware", "127.0.0.1:18002", "the `address` of the middleware")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *origin, *middleware); err != nil {
		fmt.Fprintln(os.Stderr, "stage:", err)
		os.Exit(1) //nolint:gocritic // the process ends
	}
}

// run serves both until ctx ends.
func run(ctx context.Context, origin, middleware string) error {
	users := map[string]backendtest.User{}
	for i, name := range []string{"alice", "bob", "carol"} {
		users[name] = backendtest.User{ID: fmt.Sprint(i + 1), Name: name}
	}
	m := backendtest.New(backendtest.Config{Address: middleware, Users: users})
	if err := m.Start(); err != nil {
		return err
	}
	defer m.Close()
	server := &http.Server{Addr: origin, Handler: stage.NewOrigin(stage.Config{}), ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(server.Close(), ignoreClosed(<-ended))
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
