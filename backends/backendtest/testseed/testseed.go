// Package testseed gives property tests the same draws in each run, so that a gate fails only for what has changed.
//
// Decided: a run over random draws is asked for by -rapid.seed=0, and is longer with -rapid.checks. Refused: files of
// failed draws in the tree, which make later runs fail; the message of a failure names the seed that repeats it.
package testseed

import (
	"flag"
	"fmt"
)

// pinned is the seed of a run that asks for none. Any number but 0 would do.
const pinned = "1"

// Pin gives the flags of pgregory.net/rapid their values, where neither the command line nor the environment does. A
// TestMain calls it before its tests run.
func Pin() {
	if !flag.Parsed() {
		flag.Parse()
	}
	if err := pin(flag.CommandLine); err != nil {
		panic("BUG: " + err.Error())
	}
}

func pin(flags *flag.FlagSet) error {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.seed": pinned, "rapid.nofailfile": "true"} {
		f := flags.Lookup(name)
		if f == nil {
			return fmt.Errorf("no flag -%s: nothing in this test binary uses rapid", name)
		}
		isZero := f.Value.String() == "0" || f.Value.String() == "false"
		if given[name] || !isZero { // not zero: the environment has said it
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("set -%s: %w", name, err)
		}
	}
	return nil
}
