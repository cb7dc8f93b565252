package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/bench/plan"
)

// TestCalibrateCmd_OutUnwritable_ErrorBeforeMeasuring: two minutes are not spent on a file that cannot be written.
func TestCalibrateCmd_OutUnwritable_ErrorBeforeMeasuring(t *testing.T) {
	c := calibrateCmd{For: time.Minute, Rounds: 3, Usher: "/none", Out: filepath.Join(t.TempDir(), "none", "costs.json")}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--out") {
		t.Errorf("%v, want an error about --out", err)
	}
}

// TestCalibrateCmd_Fails_KeepsFile: the costs of an earlier run stay if a run fails.
func TestCalibrateCmd_Fails_KeepsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "costs.json")
	costs, err := plan.Reference()
	if err != nil {
		t.Fatal(err)
	}
	var before strings.Builder
	if err := costs.Write(&before); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(before.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c := calibrateCmd{For: time.Minute, Rounds: 3, Usher: "/none", Out: file}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/none version") {
		t.Errorf("%v, want an error about the program", err)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != before.String() {
		t.Errorf("%v, the file is %q", err, after)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v in the folder; want the file alone", err, left)
	}
}
