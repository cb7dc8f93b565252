package main

import (
	"fmt"
	"io"
	"os"

	"usher/bench/report"
	"usher/bench/result"
)

// compareCmd shows what changed between two runs.
type compareCmd struct {
	Before string `arg:"" help:"The JSON of the first run."`
	After  string `arg:"" help:"The JSON of the second run."`
	HTML   string `name:"html" help:"Write the second run as a page with what changed." placeholder:"FILE"`
}

// Run prints the changes, and writes the page.
func (c *compareCmd) Run() error {
	before, err := openRun(c.Before)
	if err != nil {
		return err
	}
	after, err := openRun(c.After)
	if err != nil {
		return err
	}
	if err := report.PrintCompare(os.Stdout, before, after); err != nil || c.HTML == "" {
		return err
	}
	if err := writeFile(c.HTML, func(w io.Writer) error { return report.CompareHTML(w, before, after) }); err != nil {
		return fmt.Errorf("--html=%s: %w", c.HTML, err)
	}
	return nil
}

func openRun(file string) (*result.Run, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	run, err := result.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return run, nil
}
