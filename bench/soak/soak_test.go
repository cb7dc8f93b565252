package soak_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/soak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// usher builds the program usher with the race detector.
func usher(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "usher")
	if out, err := exec.Command("go", "build", "-race", "-o", file, "usher/cmd/usher").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

// TestRun_Promises runs the cluster through the faults of a minute, most kinds once, on nodes with the race detector. How fast they
// answer, and what their memory does in so short a time, is the machine's matter.
func TestRun_Promises(t *testing.T) {
	logs := t.TempDir()
	run, err := soak.Run(t.Context(), soak.Config{Usher: usher(t), For: time.Minute, Viewers: 20, Seed: 1, Logs: logs})
	if err != nil {
		t.Fatal(err)
	}
	m := &run.Measurements[0]
	const least = 8
	if len(m.Faults) < least {
		t.Errorf("%d faults, want at least %d", len(m.Faults), least)
	}
	if m.Operations[result.Segment].Requests == 0 {
		t.Error("nobody played")
	}
	for _, a := range m.Assertions {
		t.Logf("%s: %s", a.Text, a.Got)
		if isSpeed := strings.Contains(a.Text, "waited"); !a.Kept && !isSpeed && !strings.Contains(a.Text, "grow") {
			t.Errorf("does not hold: %s (%s)", a.Text, a.Got)
		}
	}
	for _, f := range m.Faults {
		t.Logf("%.1f to %.1f s, %s: %v", f.From, f.To, f.Name, f.Seen)
	}
	if t.Failed() {
		t.Log(strings.Join(m.Notes, "\n"))
	}
}

// TestRun_Interrupted_LeavesNothing interrupts a run in the middle of its faults.
func TestRun_Interrupted_LeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run, err := soak.Run(ctx, soak.Config{Usher: usher(t), For: time.Minute, Viewers: 3, Seed: 1, Show: func(s record.Snapshot) {
		if len(s.Faults) > 0 {
			cancel()
		}
	}})
	if !errors.Is(err, soak.ErrInterrupted) || len(run.Measurements) != 1 || len(run.Measurements[0].Assertions) > 0 {
		t.Errorf("%v, %+v; want that it was interrupted, and no verdict", err, run.Measurements)
	}
	if left, err := filepath.Glob(os.TempDir() + "/usher-soak-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(children) == 0 {
		t.Fatal("the children of this process cannot be read", err)
	}
	for _, file := range children {
		if pids, err := os.ReadFile(file); err == nil && len(pids) > 0 {
			t.Errorf("processes %s live on", pids)
		}
	}
}
