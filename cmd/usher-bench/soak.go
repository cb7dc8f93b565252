package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"usher/bench/record"
	"usher/bench/report"
	"usher/bench/result"
	"usher/bench/soak"
	"usher/bench/soak/clock"
)

// soakCmd runs a cluster through random faults.
type soakCmd struct {
	For     time.Duration `help:"The length of the run, at least 40s." default:"10m"`
	Viewers int           `help:"How many watch at once." default:"60"`
	Seed    uint64        `help:"What faults and viewers are drawn from; 0: one that is drawn, and printed." default:"0"`
	Usher   string        `help:"The program usher. Default: build one whose clock can be set; without that no clock steps." placeholder:"FILE"`
	Out     string        `help:"The folder of the report and of the nodes' logs." default:"." placeholder:"FOLDER"`
}

// Run runs the cluster, prints what it found, and writes the report.
func (c *soakCmd) Run(ctx context.Context) error {
	config := soak.Config{Usher: c.Usher, For: c.For, Viewers: c.Viewers, Seed: c.Seed, Logs: c.Out}
	if config.Seed == 0 {
		config.Seed = uint64(rand.Uint32())
	}
	if err := config.Validate(); err != nil {
		return err
	}
	if err := checkOut(c.Out); err != nil {
		return err
	}
	if c.Usher == "" {
		folder, err := os.MkdirTemp("", "usher-bench-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		_, _ = fmt.Println("building usher with a clock that can be set")
		if config.Usher, err = clock.Build(ctx, folder, clock.Usher); err != nil {
			return fmt.Errorf("build usher: %w (give --usher FILE to leave clock steps out)", err)
		}
	}
	config.HasClock = clock.IsSettable(config.Usher)
	return c.run(ctx, config)
}

func (c *soakCmd) run(ctx context.Context, config soak.Config) error {
	out := report.NewProgress(os.Stdout, config.For)
	_, _ = fmt.Fprintf(out, "soak: %d viewers for %s, --seed=%d\n", config.Viewers, config.For, config.Seed)
	config.Show = func(s record.Snapshot) { out.Show(s) }
	run, err := soak.Run(ctx, config)
	out.End()
	run.Command = commandLine(os.Args)
	if len(run.Measurements) == 0 {
		return err
	}
	printFaults(out, run.Measurements[0].Faults)
	printSummary(out, run)
	if err = errors.Join(err, writeReport(out, c.Out, run)); err == nil && len(run.Failed()) > 0 {
		err = errNotKept
	}
	return err
}

// printFaults prints each fault, and what viewers saw during it.
func printFaults(out io.Writer, faults []result.Fault) {
	for _, f := range faults {
		_, _ = fmt.Fprintf(out, "%6.1f to %6.1f s  %-48s", f.From, f.To, f.Name)
		for _, what := range slices.Sorted(maps.Keys(f.Seen)) {
			_, _ = fmt.Fprintf(out, "  %s: %d", what, f.Seen[what])
		}
		_, _ = fmt.Fprintln(out)
	}
}
