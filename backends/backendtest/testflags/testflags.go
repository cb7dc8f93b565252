// Package testflags sets default values of test flags for a package's tests.
// A TestMain calls its functions before its tests run.
//
// Decided: property tests draw the same in each run, so that a gate fails only for what has changed. -rapid.seed=0 runs
// random draws, and -rapid.checks more of them. Refused: files of failed draws in the tree,
// which make later runs fail; the message of a failure names the seed that repeats it.
package testflags

import (
	"flag"
	"fmt"
	"strconv"
)

// pinnedSeed is the default seed. Any number but 0 would do.
const pinnedSeed = "1"

// PinSeed has pgregory.net/rapid draw the same in each run, and leave no files behind.
func PinSeed() {
	parse()
	if err := pinSeed(flag.CommandLine); err != nil {
		panic("BUG: " + err.Error())
	}
}

// SetParallel sets how many tests run at once, for packages whose tests mostly wait for real programs.
func SetParallel(tests int) {
	parse()
	if err := set(flag.CommandLine, "test.parallel", strconv.Itoa(tests)); err != nil {
		panic("BUG: " + err.Error())
	}
}

func parse() {
	if !flag.Parsed() {
		flag.Parse()
	}
}

func pinSeed(flags *flag.FlagSet) error {
	for name, value := range map[string]string{"rapid.seed": pinnedSeed, "rapid.nofailfile": "true"} {
		if f := flags.Lookup(name); f != nil && f.Value.String() != "0" && f.Value.String() != "false" {
			continue // set by the command line or the environment
		}
		if err := set(flags, name, value); err != nil {
			return err
		}
	}
	return nil
}

// set sets a flag that the command line does not set.
func set(flags *flag.FlagSet, name, value string) error {
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return nil
	}
	if err := flags.Set(name, value); err != nil {
		return fmt.Errorf("set -%s: %w", name, err)
	}
	return nil
}
