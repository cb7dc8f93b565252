// Command usher-bench proves a match night before it comes: it plays HLS viewers against Usher and other servers.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"usher/bench/scenario"
	"usher/bench/table"
)

// commands is the command line.
type commands struct {
	Run       runCmd       `cmd:"" help:"Run a scenario, print and write what it found; the exit code is 1 if what it expects does not hold."`
	List      listCmd      `cmd:"" help:"List the scenarios, or show one with its knobs."`
	Compare   compareCmd   `cmd:"" help:"Show what changed between two runs."`
	Page      pageCmd      `cmd:"" help:"Write one page of several runs."`
	Plan      planCmd      `cmd:"" help:"Reckon what so many viewers need: nodes, Redis servers, calls of the middleware."`
	Calibrate calibrateCmd `cmd:"" help:"Measure on this machine what plan reckons with, and write it for plan --costs."`
	Simulate  simulateCmd  `cmd:"" help:"Run so many viewers on real nodes through an outage in fake time: the load of the middleware, and the bill."`
	Soak      soakCmd      `cmd:"" help:"Run three nodes, Redis, middlewares and nginx in network namespaces through random faults, and check every answer. Needs root."`
	Attack    attackCmd    `cmd:"" help:"Attack a server, for a scenario of run." hidden:""`
	Table     tableCmd     `cmd:"" help:"Measure Usher's figures beside nginx and others in alternation, and print one table."`
}

// The exit codes beside 0.
const (
	exitNegative = 1 // the measurement is complete, and not all that the scenario expects holds
	exitFailed   = 2
)

// findUsher returns the program to measure: the given one, or one that is found or built. Call remove in the end.
func findUsher(ctx context.Context, given string) (program string, remove func(), err error) {
	if given != "" {
		return given, func() {}, nil
	}
	folder, err := os.MkdirTemp("", "usher-bench-")
	if err != nil {
		return "", func() {}, err
	}
	remove = func() { _ = os.RemoveAll(folder) }
	if program, err = table.FindUsher(ctx, folder); err != nil {
		err = fmt.Errorf("--usher: %w", err)
	}
	return program, remove, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli commands
	parsed := kong.Parse(&cli, kong.Name("usher-bench"), kong.Vars{
		"rows": strings.Join(table.Rows(), ", "), "scenarios": strings.Join(scenario.Names(), ", "),
	})
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "usher-bench:", err)
		stop()
		if errors.Is(err, errNotKept) {
			os.Exit(exitNegative)
		}
		os.Exit(exitFailed)
	}
}
