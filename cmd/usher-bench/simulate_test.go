package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain_Simulate runs the program, which alone can enter a bubble.
func TestMain_Simulate(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	program := filepath.Join(folder, "usher-bench")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	simulate := func(arguments ...string) (string, error) {
		command := exec.Command(program, append([]string{"simulate", "--out", folder}, arguments...)...)
		out, err := command.CombinedOutput()
		return string(out), err
	}
	out, err := simulate("--viewers=50000", "--sample=500", "--nodes=4", "--recheck-rate=400", "--arrive=1m", "--for=6m", "--outage-at=2m", "--outage-for=2m")
	for _, want := range []string{"3m0s  viewers", "fault: middleware refuse", "free_rides.hours", "holds  no viewer is refused who may watch"} {
		if !strings.Contains(out, want) {
			t.Errorf("%v, without %q:\n%s", err, want, out)
		}
	}
	run := readRun(t, filepath.Join(folder, "simulate.json"))
	if m := &run.Measurements[0]; err != nil || m.Seconds != 360 || m.Counts["admissions.unverified"] == 0 || run.Started.Year() < 2026 {
		t.Errorf("%v, %v s, counts %v, started %v", err, m.Seconds, m.Counts, run.Started)
	}
	out, err = simulate("--sample=0")
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(out, "--sample=0: want 1 to") {
		t.Errorf("%v: %s", err, out)
	}
}
