package process_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/bench/process"
)

// timeout bounds waits. Only a failing test reaches it.
const timeout = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, name string, args ...string) *process.Process {
	t.Helper()
	p, err := process.Start(exec.Command(name, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", timeout, what)
		}
	}
}

func isAlive(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func TestProcess_Stop_EndsChildren(t *testing.T) {
	t.Parallel()
	p := start(t, "sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; exec sleep 600")
	eventually(t, "the child runs", func() bool { return strings.HasSuffix(p.Output(), "\n") })
	child := strings.TrimSpace(p.Output())
	if !isAlive(child) {
		t.Errorf("the child %s does not live", child)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil { // Stop has less to wait for
		t.Error(err)
	}
	p.Stop()
	p.Stop()
	select {
	case <-p.Ended():
	default:
		t.Error("the process has not ended")
	}
	eventually(t, "the child has ended", func() bool { return !isAlive(child) })
}

func TestStart_NoSuchProgram_Error(t *testing.T) {
	t.Parallel()
	if _, err := process.Start(exec.Command("/nonexistent")); err == nil {
		t.Error("a program that does not exist was started")
	}
}

// TestStart_Environment_NoSettings has an operator's variables of Usher, and of the harness itself, reach no server.
func TestStart_Environment_NoSettings(t *testing.T) {
	t.Setenv("USHER_BACKENDS_PORTAL_ADDRESS", "http://middleware.example.com/check")
	t.Setenv("USHER_BENCH_METRICS_TOKEN", "secret")
	t.Setenv("PUSHER_LISTEN", "kept")
	p := start(t, "env")
	<-p.Ended()
	if got := p.Output(); strings.Contains(got, "\nUSHER_") || strings.HasPrefix(got, "USHER_") || !strings.Contains(got, "PUSHER_LISTEN=kept\n") {
		t.Errorf("the environment of a server:\n%s", got)
	}
}

func TestProcess_Output_KeepsEnd(t *testing.T) {
	t.Parallel()
	p := start(t, "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo the end >&2")
	<-p.Ended()
	if got := p.Output(); !strings.HasSuffix(got, "xthe end\n") || len(got) > 4096 {
		t.Errorf("output of %d bytes, which ends in %.20q", len(got), got[max(0, len(got)-20):])
	}
}

func TestMeasure_CountsDescendants(t *testing.T) {
	t.Parallel()
	// The grandchild is named as to confuse a reader of /proc/PID/stat.
	p := start(t, "sh", "-c", `cd "$0" && cp "$(command -v sh)" "a) R 1 (b" && "./a) R 1 (b" -c 'while :; do :; done' & wait`, t.TempDir())
	eventually(t, "the grandchild used CPU", func() bool {
		used, err := process.CPU(p.PID())
		if err != nil {
			t.Fatal(err)
		}
		return used >= 50*time.Millisecond
	})
	u, err := process.Measure(p.PID())
	if err != nil || u.CPU == 0 || u.Resident < 64<<10 {
		t.Errorf("%+v, %v; want CPU and memory", u, err)
	}
	if own, err := process.CPU(os.Getpid()); err != nil || own < u.CPU {
		t.Errorf("the test's own tree used %v, %v; want at least its child's %v", own, err, u.CPU)
	}
}

func TestPeak_OfProcess(t *testing.T) {
	t.Parallel()
	p := start(t, "sh", "-c", "sleep 60")
	u, err := process.Measure(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if peak, err := process.Peak(p.PID()); err != nil || peak < u.Resident || peak > 100*u.Resident {
		t.Errorf("%d bytes at most, %v; want at least the present %d", peak, err, u.Resident)
	}
	p.Stop()
	if peak, err := process.Peak(p.PID()); err == nil {
		t.Errorf("%d bytes of a process that has ended, want an error", peak)
	}
}
