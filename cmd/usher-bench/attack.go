package main

import (
	"context"
	"os"

	"usher/bench/attack"
)

// attackCmd is a process that attacks for a scenario.
type attackCmd struct {
	Arguments []string `arg:"" passthrough:""`
}

// Run attacks until it is told to end.
func (c *attackCmd) Run(ctx context.Context) error { return attack.Serve(ctx, c.Arguments, os.Stdout) }

// attacker returns the command of a process that attacks; empty: this program does not know its own path.
func attacker() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{self, "attack"}
}
