package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"usher/bench/table"
)

// tableCmd measures the table of figures.
type tableCmd struct {
	Usher    string        `help:"The program to measure. Empty: the one beside this program, in PATH, or built from the source." placeholder:"PATH"`
	Rounds   int           `help:"How often each server is measured." default:"5"`
	Length   time.Duration `help:"How long each time." default:"5s"`
	Sessions int           `help:"The size of the rows on a million sessions." default:"1000000"`
	Quick    bool          `help:"One short round of each, for orientation."`
	Only     []string      `help:"Run these rows alone: ${rows}." placeholder:"ROW"`
}

// Run prints the table as Markdown, and progress to standard error.
func (c *tableCmd) Run(ctx context.Context) error {
	o := table.DefaultOptions()
	o.Usher, o.Rounds, o.Length, o.Sessions, o.Only = c.Usher, c.Rounds, c.Length, c.Sessions, c.Only
	if c.Quick {
		o = o.Quick()
	}
	o.Progress = func(line string) { _, _ = fmt.Fprintln(os.Stderr, line) }
	program, remove, err := findUsher(ctx, c.Usher)
	defer remove()
	if err != nil {
		return err
	}
	o.Usher = program
	t, err := table.Run(ctx, o)
	if t != nil && len(t.Lines) > 0 {
		err = errors.Join(err, t.WriteMarkdown(os.Stdout))
	}
	return err
}
