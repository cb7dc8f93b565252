package calibrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
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
const unitsPerRound = 28

// longestUnit is shorter than a segment stays in its playlist. With more time there may be more rounds.
const longestUnit = 5 * time.Second

// calibration is one run.
type calibration struct {
	Options
	// unit is how long a step is measured.
	unit     time.Duration
	hasRedis bool
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
	version, err := exec.CommandContext(ctx, o.Usher, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s version: %w", o.Usher, err)
	}
	c := newCalibration(o, min(longestUnit, o.For/time.Duration(o.Rounds*unitsPerRound)))
	for round := range o.Rounds {
		c.say("round %d of %d", round+1, o.Rounds)
		if err := c.round(ctx); err != nil {
			return nil, err
		}
	}
	return c.report(costs, strings.TrimSpace(string(version))), nil
}

func newCalibration(o Options, unit time.Duration) *calibration {
	return &calibration{Options: o, unit: unit, hasRedis: rig.HasRedis(), values: values{}, notes: notes{cores: float64(process.Host().CPUs)}}
}

// round measures each cost once. Each step has servers of its own, so that none weighs on the next one.
func (c *calibration) round(ctx context.Context) error {
	for _, step := range c.steps() {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (c *calibration) steps() []func(context.Context) error {
	steps := []func(context.Context) error{c.measureServing, c.measureConnections, c.measureSegments, c.measureRecheckAlone}
	if c.hasRedis {
		steps = append(steps, c.measureOpening, c.measureRecheck, c.measureHeartbeats)
	}
	return steps
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

// isCost reports whether v is a number above 0.
func isCost(v float64) bool { return v > 0 && !math.IsInf(v, 0) }

// report makes costs of the medians. A cost that was not measured keeps its value, and is marked as an estimate.
func (c *calibration) report(costs plan.Costs, version string) *Report {
	r := &Report{values: c.values, Notes: c.notes.all()}
	var drowned, missing []string
	for _, name := range plan.Names() {
		switch found := c.values[name]; {
		case len(found) == 0:
			missing = append(missing, name)
		case !isCost(median(found)):
			drowned = append(drowned, name)
		default:
			costs.Set(name, rounded(median(found)), fmt.Sprintf("%s; median of %s", methods()[name], spread(found)))
		}
	}
	if len(drowned) > 0 {
		costs.SetEstimates(drowned, "too small beside the machine's noise")
		r.Notes = append(r.Notes, fmt.Sprintf("%s: too small beside the machine's noise, so those of the reference machine stay, marked as estimates; "+
			"repeat it with a longer --for where nothing else runs.", strings.Join(drowned, ", ")))
	}
	if len(missing) > 0 {
		costs.SetEstimates(missing, rig.ErrNoRedis.Error())
		r.Notes = append(r.Notes, fmt.Sprintf("%v: the costs with Redis are those of the reference machine, marked as estimates.", rig.ErrNoRedis))
	}
	h := process.Host()
	costs.Machine = fmt.Sprintf("%d cores of %s, %.0f GiB, %s, %s, %s, %s", h.CPUs, h.CPU, float64(h.Memory)/(1<<30), h.System, h.Go, version,
		time.Now().Format(time.DateOnly))
	r.Costs = costs
	return r
}
