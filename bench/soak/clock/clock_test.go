package clock_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"usher/bench/soak/clock"
)

// TestBuild_ClockIsSet sets the clock of a program while it runs. Its monotonic clock goes on.
func TestBuild_ClockIsSet(t *testing.T) {
	program, err := clock.Build(t.Context(), t.TempDir(), "./testdata/now")
	if err != nil {
		t.Fatal(err)
	}
	if own, err := os.Executable(); err != nil || !clock.IsSettable(program) || clock.IsSettable("/bin/sh") || clock.IsSettable(own+" missing") {
		t.Errorf("%v: whether a clock can be set is not told apart", err)
	}
	file, err := clock.Open(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), file.Environment())
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []time.Duration{0, time.Hour, -time.Hour, 0} {
		if err := file.Set(step); err != nil {
			t.Fatal(err)
		}
		var wall, elapsed int64
		before := time.Now()
		_, err1 := io.WriteString(in, "now\n")
		_, err2 := fmt.Fscan(out, &wall, &elapsed)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		after := time.Now()
		if got := time.Unix(0, wall).Add(-step); got.Before(before.Add(-time.Millisecond).Round(0)) || got.After(after.Round(0)) {
			t.Errorf("set to %v: the program's clock is %v from the machine's", step, time.Unix(0, wall).Sub(after))
		}
		if ran := time.Duration(elapsed); ran < 0 || ran > after.Sub(begun) {
			t.Errorf("set to %v: the program has run for %v, want at most %v", step, ran, after.Sub(begun))
		}
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestBuild_WithoutVariable_MachinesClock runs the program as anybody would.
func TestBuild_WithoutVariable_MachinesClock(t *testing.T) {
	program, err := clock.Build(t.Context(), t.TempDir(), "./testdata/now")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `echo now | "$0"`, program)
	out, err := cmd.Output()
	var wall, elapsed int64
	if _, scanErr := fmt.Sscan(string(out), &wall, &elapsed); err != nil || scanErr != nil {
		t.Fatal(err, scanErr)
	}
	if got := time.Unix(0, wall); got.Before(before.Round(0)) || got.After(time.Now().Round(0)) {
		t.Errorf("the program's clock says %v, the machine's %v", got, before)
	}
}
