package soak

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"usher/bench/soak/netns"
)

// TestWorld_BreakThings_Interrupted has two faults of one server at once, and interrupts the run as the first is mended: the other one,
// which waits, does not begin.
func TestWorld_BreakThings_Interrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	redis := &server{
		host: &netns.Host{Name: "redis"}, command: func() *exec.Cmd { return exec.Command("sleep", "60") },
		serves: func(context.Context) error { return nil },
	}
	if err := redis.start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { redis.process.Stop() }()
	redis.serves = func(context.Context) error { interrupt(); return nil }
	w := &world{redis: redis, ledger: newLedger(time.Now())}
	if err := w.breakThings(ctx, []fault{{kind: killed, a: "redis"}, {kind: killed, a: "redis"}}); err != nil {
		t.Fatal(err)
	}
	if faults := w.ledger.finish(time.Now()).Faults; len(faults) != 1 {
		t.Errorf("%v; want that one fault began", faults)
	}
}
