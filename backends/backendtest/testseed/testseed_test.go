package testseed

import (
	"flag"
	"fmt"
	"testing"
)

func TestPin(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		environment uint64 // the seed that the flag has without a command line
		args        []string
		want        string
	}{
		"nothing is said":                        {0, nil, "1 true"},
		"a seed on the command line":             {0, []string{"-rapid.seed=7"}, "7 true"},
		"random seeds on the command line":       {0, []string{"-rapid.seed=0"}, "0 true"},
		"a seed in the environment":              {7, nil, "7 true"},
		"a wish for a file on the command line":  {0, []string{"-rapid.nofailfile=false"}, "1 false"},
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
			if err := pin(flags); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(*seed, *noFailFile); got != test.want {
				t.Errorf("seed and no fail file: %s, want %s", got, test.want)
			}
		})
	}
}

func TestPin_NoRapid_Error(t *testing.T) {
	t.Parallel()
	if err := pin(flag.NewFlagSet("", flag.ContinueOnError)); err == nil {
		t.Error("flags without rapid's: want an error")
	}
}
