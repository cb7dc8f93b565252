package main

import (
	"fmt"

	"usher/bench/rig"
	"usher/bench/scenario"
)

// listCmd shows what there is to run.
type listCmd struct {
	Scenario string `arg:"" optional:"" help:"Show this scenario's knobs, faults and expectations."`
}

// Run prints all scenarios, or one.
func (c *listCmd) Run() error {
	if c.Scenario != "" {
		return c.show()
	}
	for _, name := range scenario.Names() {
		s, err := scenario.Load(name)
		if err != nil {
			return err
		}
		_, _ = fmt.Printf("%-16s %s\n", name, s.Shows)
	}
	return nil
}

func (c *listCmd) show() error {
	s, err := scenario.Load(c.Scenario)
	if err != nil {
		return err
	}
	_, _ = fmt.Printf("%s\n%s\n\nknobs:\n", s.Name, s.Shows)
	for _, k := range s.AllKnobs() {
		_, _ = fmt.Printf("  %-20s %-14s %s\n", k.Name, k.Value(), k.Help)
	}
	_, _ = fmt.Println("\nfaults:")
	for _, f := range s.Faults {
		_, _ = fmt.Printf("  at %s for %s: %s\n", f.At, f.For, f.What)
	}
	_, _ = fmt.Println("\nexpectations:")
	for i := range s.Expect {
		_, _ = fmt.Printf("  %s\n", s.Expect[i].Text)
	}
	_, _ = fmt.Println("\nall faults:")
	for _, form := range rig.Faults() {
		_, _ = fmt.Printf("  %s\n", form)
	}
	return nil
}
