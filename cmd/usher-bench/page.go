package main

import (
	"fmt"
	"io"

	"usher/bench/report"
	"usher/bench/result"
)

// pageCmd writes one page of several runs.
type pageCmd struct {
	Runs []string `arg:"" help:"The JSON of each run."`
	HTML string   `name:"html" help:"The page." default:"scenarios.html" placeholder:"FILE"`
}

// Run writes the page.
func (c *pageCmd) Run() error {
	var runs []*result.Run
	for _, file := range c.Runs {
		run, err := openRun(file)
		if err != nil {
			return err
		}
		runs = append(runs, run)
	}
	if err := writeFile(c.HTML, func(w io.Writer) error { return report.JoinedHTML(w, runs...) }); err != nil {
		return fmt.Errorf("--html=%s: %w", c.HTML, err)
	}
	return nil
}
