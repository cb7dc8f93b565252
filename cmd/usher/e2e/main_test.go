package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/backends/backendtest/testbrowser"
	"usher/backends/backendtest/testproc"
)

// binaryVariable and plainBinaryVariable are the environment variables with the binaries' paths. A name that begins with
// USHER_ would be a setting.
const (
	binaryVariable      = "E2E_BINARY"
	plainBinaryVariable = "E2E_PLAIN_BINARY"
)

// chromium is the browser of all tests.
var chromium testbrowser.Browser

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the binaries, runs the tests, and looks for leaked goroutines.
func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "usher-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := build(folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if code := chromium.Run(m); code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "leaked goroutines:", err)
		return 1
	}
	return 0
}

// build builds the binary with the race detector, and without it, as operators run it.
func build(folder string) error {
	for variable, flags := range map[string][]string{binaryVariable: {"-race"}, plainBinaryVariable: nil} {
		path := filepath.Join(folder, strings.ToLower(variable))
		args := append(append([]string{"build"}, flags...), "-o", path, "usher/cmd/usher")
		var out bytes.Buffer
		cmd := exec.Command("go", args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := testproc.Run(cmd); err != nil {
			return fmt.Errorf("build the binary: %w\n%s", err, bytes.TrimSpace(out.Bytes()))
		}
		if err := os.Setenv(variable, path); err != nil {
			return err
		}
	}
	return nil
}

// binary returns the path of the binary with the race detector.
func binary(t *testing.T) string {
	t.Helper()
	return built(t, binaryVariable)
}

// plainBinary returns the path of the binary that operators run, for tests that measure it or load the machine.
func plainBinary(t *testing.T) string {
	t.Helper()
	return built(t, plainBinaryVariable)
}

func built(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("BUG: %s is not set", variable)
	}
	return path
}

// tool finds a program, and fails the test if it is missing.
func tool(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name)) // Debian's folder for servers, which is not in every PATH
	}
	if err != nil {
		t.Fatalf("%s is missing, from the Debian package %s:\n  apt-get install -y --no-install-recommends %s",
			name, debian, debian)
	}
	return path
}

// pollEvery is the interval at which a condition is checked.
const pollEvery = 20 * time.Millisecond

// eventually waits until check returns no error, and fails the test with the last error if that takes too long.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %s: %v", what, within, err)
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		}
	}
}

// TestBinary_IsOfThisCheckout stats every source file of the binary. go test reuses a cached result unless a file that a
// test has read changes, and it does not know that the tests depend on the binary.
func TestBinary_IsOfThisCheckout(t *testing.T) {
	built, err := os.Stat(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	sources := 0
	err = filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		sources++
		_, err = os.Stat(path)
		return err
	})
	if err != nil || sources < 50 || built.Size() == 0 {
		t.Errorf("%d source files, a binary of %d bytes: %v", sources, built.Size(), err)
	}
}
