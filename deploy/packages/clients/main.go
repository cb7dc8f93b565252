// Clients requests a URL until it is told to end, as clients do that never repeat a request, and fails if one of them failed:
//
//	clients --url 'http://127.0.0.1:8080/play/a001/index.m3u8?token=bob' --clients 4
//
// It prints "running" once the first request of each kind is served.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"usher/bench/strict"
)

func main() {
	address := flag.String("url", "", "the `URL`, http://host:port/path")
	clients := flag.Int("clients", 4, "how many clients of each kind")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, *clients); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1) //nolint:gocritic // the process ends
	}
}

// pause is shorter than the drain.readiness_delay of the node, so that each kept connection is told to end.
const pause = 200 * time.Millisecond

// run requests until ctx ends.
func run(ctx context.Context, address string, clients int) error {
	kinds := []strict.Kind{strict.Kept, strict.Each}
	var loads []*strict.Load
	for _, kind := range kinds {
		load, err := strict.Start(ctx, strict.Options{URL: address, Kind: kind, Clients: clients, Pause: pause, Timeout: time.Minute})
		if err != nil {
			return err
		}
		loads = append(loads, load)
	}
	awaitFirst(ctx, loads)
	fmt.Println("running")
	<-ctx.Done()
	failed := int64(0)
	for i, load := range loads {
		result := load.Stop()
		failed += result.Failed
		fmt.Printf("%s: %v\n", kinds[i], result)
	}
	if failed > 0 {
		return fmt.Errorf("%d requests failed", failed)
	}
	return nil
}

// awaitFirst waits until each load has a request behind it, or ctx ends.
func awaitFirst(ctx context.Context, loads []*strict.Load) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for _, load := range loads {
		for load.Requests() == 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}
