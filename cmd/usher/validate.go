package main

import (
	"errors"
	"fmt"
	"log/slog"

	"usher/actors/records"
	"usher/cmd/usher/config"
)

// build reads the settings, writes the warnings, and makes a node of the changed settings, which listens nowhere and
// leaves alone what a running node uses. The function ends it.
func (f fileFlag) build(r runtime, change func(*settings)) (*node, func(), error) {
	s, source, err := f.load()
	if err != nil {
		return nil, nil, err
	}
	for _, warning := range source.Warnings() {
		_, _ = fmt.Fprintln(r.err, "warning:", warning)
	}
	change(s)
	trial := *s
	trial.Cluster.StateDir, trial.Records = "", records.Config{} // a node would lock its files, and write to them
	n, end, err := prepare(r.ctx, &trial, slog.New(slog.DiscardHandler))
	if err := errors.Join(s.Cluster.CheckStateDir(), s.Records.Check(), err); err != nil {
		if end != nil {
			end()
		}
		return nil, nil, source.Explain(err)
	}
	n.current.Load().settings = s
	return n, end, nil
}

type validateCommand struct {
	fileFlag
	Print bool `help:"Print the settings in effect, defaults included and secrets hidden."`
}

// Run prints every problem of the file, and what would keep a node from starting.
func (v validateCommand) Run(r runtime) error {
	n, end, err := v.build(r, func(*settings) {})
	if err != nil {
		return err
	}
	end()
	if v.Print {
		return config.Print(r.out, n.current.Load().settings)
	}
	_, err = fmt.Fprintf(r.out, "%s: ok\n", v.Config)
	return err
}
