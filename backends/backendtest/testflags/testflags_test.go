package testflags

import (
	"flag"
	"fmt"
	"strings"
	"testing"
)

func TestPinSeed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		environment uint64 // the seed that the flag has without a command line
		args        []string
		want        string
	}{
		"the defaults":                           {0, nil, "1 true"},
		"a seed on the command line":             {0, []string{"-rapid.seed=7"}, "7 true"},
		"random seeds on the command line":       {0, []string{"-rapid.seed=0"}, "0 true"},
		"a seed in the environment":              {7, nil, "7 true"},
		"fail files on the command line":         {0, []string{"-rapid.nofailfile=false"}, "1 false"},
		"the command line beats the environment": {7, []string{"-rapid.seed=0"}, "0 true"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := flag.NewFlagSet("", flag.ContinueOnError)
			seed := flags.Uint64("rapid.seed", test.environment, "")
			noFailFile := flags.Bool("rapid.nofailfile", false, "")
			if err := flags.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			if err := pinSeed(flags); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(*seed, *noFailFile); got != test.want {
				t.Errorf("seed and no fail file: %s, want %s", got, test.want)
			}
		})
	}
}

func TestPinSeed_NoRapid_Error(t *testing.T) {
	t.Parallel()
	if err := pinSeed(flag.NewFlagSet("", flag.ContinueOnError)); err == nil {
		t.Error("flags without rapid's: want an error")
	}
}

func TestSet_GivenFlag_Kept(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]int{"": 4, "-test.parallel=2": 2} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		parallel := flags.Int("test.parallel", 1, "")
		if err := flags.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if err := set(flags, "test.parallel", "4"); err != nil {
			t.Fatal(err)
		}
		if *parallel != want {
			t.Errorf("with %q: %d tests at once, want %d", args, *parallel, want)
		}
	}
}
