package calibrate

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"usher/bench/plan"
	"usher/bench/process"
	"usher/bench/rig"
)

// Options say how costs are measured.
type Options struct {
	// Usher is the path of the program usher.
	Usher string
	// For is about how long everything takes, and Rounds how often each cost is measured in that time.
	For    time.Duration
	Rounds int
	// Progress gets a line for each measurement.
	Progress func(line string)

	// withoutRedis is set on a machine without redis-server.
	withoutRedis bool
}

// minRounds have a median that one disturbed round does not move.
const minRounds = 3

// Validate reports every invalid field.
func (o Options) Validate() error {
	var errs []error
	if o.Rounds < minRounds {
		errs = append(errs, fmt.Errorf("rounds: %d, want at least %d", o.Rounds, minRounds))
	}
	if o.For <= 0 {
		errs = append(errs, fmt.Errorf("for: %v, want more than 0", o.For))
	}
	return errors.Join(errs...)
}

// unitsPerRound is how many units the steps of a round take, with the starts of their servers.
const unitsPerRound = 24

// calibration is one run.
type calibration struct {
	Options
	// unit is how long a step is measured.
	unit time.Duration
	values
	notes
}

// Run measures all costs. Without redis-server those that need it are the reference machine's, and marked so.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	costs, err := plan.Reference()
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, o.Usher, "version").Output() //nolint:gosec // the operator's own
	if err != nil {
		return nil, fmt.Errorf("%s version: %w", o.Usher, err)
	}
	o.withoutRedis = o.withoutRedis || !rig.HasRedis()
	c := &calibration{
		Options: o, unit: o.For / time.Duration(o.Rounds*unitsPerRound), values: values{}, notes: notes{cores: float64(process.Host().CPUs)},
	}
	for round := range o.Rounds {
		c.say("round %d of %d", round+1, o.Rounds)
		if err := c.round(ctx); err != nil {
			return nil, err
		}
	}
	return c.report(costs, strings.TrimSpace(string(version)))
}

// round measures each cost once. Each step has servers of its own, so that none weighs on the next one.
func (c *calibration) round(ctx context.Context) error {
	steps := []func(context.Context) error{c.measureServing, c.measureConnections, c.measureSegments, c.measureRecheckAlone}
	if !c.withoutRedis {
		steps = append(steps, c.measureOpening, c.measureRecheck, c.measureHeartbeats)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// say reports progress.
func (c *calibration) say(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(fmt.Sprintf(format, args...))
	}
}

// found keeps what a cost was in this round, and says it.
func (c *calibration) found(name string, value float64) {
	c.values[name] = append(c.values[name], value)
	c.say("  %-28s %12s", name, number(value))
}

// errUnmeasured is wrapped by the error for a cost that drowned in noise.
var errUnmeasured = errors.New("too small beside the machine's noise: give it more time with --for, on a machine where nothing else runs")

// report makes costs of the medians.
func (c *calibration) report(costs plan.Costs, version string) (*Report, error) {
	h := process.Host()
	reference := plan.Names()
	r := &Report{values: c.values, Notes: c.notes.all()}
	for name, found := range c.values {
		if median(found) <= 0 {
			return nil, fmt.Errorf("%s: %s: %w", name, spread(found), errUnmeasured)
		}
		reference = slices.DeleteFunc(reference, func(one string) bool { return one == name })
	}
	if len(reference) > 0 {
		costs.SetEstimates(reference, "not measured: "+rig.ErrNoRedis.Error())
		r.Notes = append(r.Notes, fmt.Sprintf("%v: the costs with Redis are those of the reference machine, and marked as estimates.", rig.ErrNoRedis))
	}
	for name, found := range c.values {
		costs.Set(name, rounded(median(found)), fmt.Sprintf("%s; median of %s", methods()[name], spread(found)))
	}
	costs.Machine = fmt.Sprintf("%d cores of %s, %.0f GiB, %s, %s, %s, %s", h.CPUs, h.CPU, float64(h.Memory)/(1<<30), h.System, h.Go, version,
		time.Now().Format(time.DateOnly))
	r.Costs = costs
	return r, nil
}
