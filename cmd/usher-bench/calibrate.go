package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"usher/bench/calibrate"
)

// calibrateCmd measures the costs of plan on this machine.
type calibrateCmd struct {
	For    time.Duration `help:"About how long everything takes." default:"2m"`
	Rounds int           `help:"How often each cost is measured in that time; the median counts." default:"3"`
	Usher  string        `help:"The program to measure. Empty: the one beside this program, in PATH, or built from the source." placeholder:"PATH"`
	Out    string        `help:"The file of costs, for plan --costs." default:"costs.json" placeholder:"FILE"`
}

// Run measures the costs, prints each with its spread, and writes the file. Progress goes to standard error.
func (c *calibrateCmd) Run(ctx context.Context) (err error) {
	o := calibrate.Options{Usher: c.Usher, For: c.For, Rounds: c.Rounds}
	if err := o.Validate(); err != nil {
		return err
	}
	// Two minutes are not spent on a file that cannot be written, and a run that fails leaves what is there.
	f, err := os.CreateTemp(filepath.Dir(c.Out), ".usher-bench-*.json")
	if err != nil {
		return fmt.Errorf("--out=%s: %w", c.Out, err)
	}
	defer func() {
		_ = f.Close()           // an error was found before
		_ = os.Remove(f.Name()) // it has its own name if all went well
	}()
	o.Progress = func(line string) { _, _ = fmt.Fprintln(os.Stderr, line) }
	var remove func()
	o.Usher, remove, err = findUsher(ctx, c.Usher)
	defer remove()
	if err != nil {
		return err
	}
	report, err := calibrate.Run(ctx, o)
	if err != nil {
		return err
	}
	if err := report.Print(os.Stdout); err != nil {
		return err
	}
	const mode = 0o644
	err = errors.Join(report.Costs.Write(f), f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.Out)
	}
	if err != nil {
		return fmt.Errorf("--out=%s: %w", c.Out, err)
	}
	_, err = fmt.Printf("\nWritten to %s. Use it with: usher-bench plan --viewers N --costs %[1]s\n", c.Out)
	return err
}
