package soak

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun_WrongNodes_PromisesBroken has nodes that share nothing and admit nobody in an outage: the checks must see it.
func TestRun_WrongNodes_PromisesBroken(t *testing.T) {
	program := filepath.Join(t.TempDir(), "usher")
	if out, err := exec.Command("go", "build", "-race", "-o", program, "usher/cmd/usher").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const refused = "refuse"
	run, err := Run(t.Context(), Config{
		Usher: program, For: minFor, Viewers: 10, Seed: seedWith(refused),
		sabotage: func(node, settings string) string {
			alone := strings.Replace(settings, `redis: { addresses: [ "redis.soak:6379" ] }`,
				`redis: { addresses: [ "redis.soak:6379" ], key_prefix: `+node+` }`, 1)
			wrong := strings.Replace(alone, "on_failure: allow", "on_failure: deny", 1)
			if alone == settings || wrong == alone {
				t.Error("the settings have nothing to change")
			}
			return wrong
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{string(newServed): false, string(bansHeld): false, string(forgedRefused): true, string(nodesLive): true}
	for _, a := range run.Measurements[0].Assertions {
		if kept, isKnown := want[a.Text]; isKnown && a.Kept != kept {
			t.Errorf("%s: holds %v (%s), want %v", a.Text, a.Kept, a.Got, kept)
		}
	}
}

// seedWith returns the first seed whose shortest run has a middleware that behaves so.
func seedWith(mode string) (seed uint64) {
	for ; ; seed++ {
		for _, f := range plan(minFor, false, chanceOf(seed)) {
			if f.mode == mode {
				return seed
			}
		}
	}
}
