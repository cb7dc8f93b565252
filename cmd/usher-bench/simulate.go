package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"usher/backends"
	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/simulate"
)

// simulateCmd simulates an outage.
type simulateCmd struct {
	Viewers int           `help:"How many watch at once." default:"10000000"`
	Nodes   int           `help:"How many nodes serve them." default:"100"`
	Sample  int           `help:"How many viewers are simulated." default:"20000"`
	Arrive  time.Duration `help:"The time in which the first viewers come." default:"10m"`
	Watch   time.Duration `help:"How long a viewer watches on average; then another one comes." default:"40m"`
	Hop     time.Duration `help:"How long on average until a viewer's requests reach another node; 0s: never." default:"0s"`
	Segment time.Duration `help:"How often a viewer asks." default:"4s"`
	Bitrate quantity      `help:"Of one stream, in bit/s." default:"6M"`
	Bad     float64       `help:"The share of viewers whom the middleware denies, 0 to 1." default:"0.02"`
	Streams int           `help:"How many streams a user may play at once; 0: any number." default:"0"`
	Shared  float64       `help:"The share of viewers who use the account of another one, 0 to 1." default:"0"`

	Validity    time.Duration   `help:"How long an answer of the middleware holds." default:"180s"`
	RecheckRate int             `help:"The backend's recheck_rate, of all nodes together." default:"60000"`
	OnFailure   backends.Policy `help:"The backend's outage policy: allow, keep or deny." default:"allow"`

	Latency   time.Duration `help:"How long the middleware takes to answer." default:"20ms"`
	Capacity  int           `help:"How many calls a second it can answer; 0: any number." default:"0"`
	Outage    string        `help:"What it does in the outage: none, refuse, hang or error." default:"refuse"`
	OutageAt  time.Duration `help:"When the outage begins." default:"20m"`
	OutageFor time.Duration `help:"How long it lasts." default:"10m"`

	For  time.Duration `help:"The simulated time." default:"45m"`
	Seed int           `help:"What chance is drawn from." default:"1"`
	Out  string        `help:"The folder of the report." default:"." placeholder:"FOLDER"`
}

func (c *simulateCmd) config() simulate.Config {
	return simulate.Config{
		Viewers: c.Viewers, Nodes: c.Nodes, Sample: c.Sample, Arrive: c.Arrive, Watch: c.Watch, Hop: c.Hop, Segment: c.Segment,
		Bitrate: float64(c.Bitrate), Bad: c.Bad, Streams: c.Streams, Shared: c.Shared, Validity: c.Validity, RecheckRate: c.RecheckRate,
		OnFailure: c.OnFailure, Latency: c.Latency, Capacity: c.Capacity, Outage: simulate.Outage(c.Outage), From: c.OutageAt,
		Length: c.OutageFor, For: c.For, Seed: c.Seed,
	}
}

// Run simulates, prints what it found, and writes the report.
func (c *simulateCmd) Run(ctx context.Context) error {
	config := c.config()
	if err := config.Validate(); err != nil {
		return err
	}
	if err := checkOut(c.Out); err != nil {
		return err
	}
	started := time.Now()
	var run *result.Run
	var err error
	simulate.InFakeTime(func() {
		run, err = simulate.Run(ctx, config, func(s record.Snapshot) { printMinute(os.Stdout, s) })
	})
	if run == nil {
		return err
	}
	run.Started, run.Measurements[0].Started = started, started // not the bubble's
	run.Command = commandLine(os.Args)
	printSummary(os.Stdout, run)
	if err := writeReport(os.Stdout, c.Out, run); err != nil {
		return err
	}
	if err == nil && len(run.Failed()) > 0 {
		return errNotKept
	}
	return err
}

// printMinute prints a line once a simulated minute.
func printMinute(out io.Writer, s record.Snapshot) {
	if s.Elapsed%time.Minute != 0 {
		return
	}
	_, _ = fmt.Fprintf(out, "%6s  viewers %9.0f  without an answer %9.0f  free riders %7.0f  middleware %7.0f/s  waiting %9.0f", s.Elapsed,
		s.Values["viewers.alive"], s.Values["viewers.unverified"], s.Values["free_riders"], s.Values["middleware.calls"], s.Values["rechecks.waiting"])
	for _, fault := range s.Faults {
		_, _ = fmt.Fprintf(out, "  fault: %s", fault)
	}
	_, _ = fmt.Fprintln(out)
}
