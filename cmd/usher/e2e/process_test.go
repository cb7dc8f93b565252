package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/backends/backendtest/testproc"
	ports "usher/bench/process"
)

// transcript is the output of a process. It is safe for concurrent use.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends output.
func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// String returns the output so far.
func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// process is a child process that leads its own process group.
type process struct {
	cmd  *exec.Cmd
	out  *transcript
	errs *transcript
	done chan struct{} // closed when it has ended
}

// waitTimeout bounds every wait for a process or a condition. Only a failing test reaches it.
const waitTimeout = 60 * time.Second

// start starts a program. The test's cleanup kills it.
func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(path, args...)) // without a context, because a signal must reach the whole group
}

// startCommand starts a program with an environment and files of its own.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: new(transcript), errs: new(transcript), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.errs
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	wait, err := testproc.Start(cmd)
	if err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	go func() {
		defer close(p.done)
		_ = wait() // callers read the exit code
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		p.inspect(t)
	})
	return p
}

// inspect fails the test if the log has a data race, a panic or a BUG message, and shows the log of a failed test.
func (p *process) inspect(t *testing.T) {
	t.Helper()
	log := p.errs.String()
	if strings.Contains(log, "DATA RACE") || strings.Contains(log, `"msg":"BUG`) || strings.Contains(log, "panic:") {
		t.Errorf("%s has a bug", p)
	}
	if t.Failed() {
		t.Logf("%s wrote:\n%s%s", p, headAndTail(p.out.String()), headAndTail(log))
	}
}

// headAndTail shortens a log to its beginning and its end.
func headAndTail(log string) string {
	const head, most = 4 << 10, 24 << 10
	if len(log) <= head+most {
		return log
	}
	return log[:head] + "\n…\n" + log[len(log)-most:]
}

// String returns the command line, shortened.
func (p *process) String() string {
	line := filepath.Base(p.cmd.Path) + " " + strings.Join(p.cmd.Args[1:], " ")
	return line[:min(len(line), 120)]
}

// signal sends a signal to the whole group if the process runs.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // another process may have its id by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// wait waits until the process ends, and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(waitTimeout):
		t.Fatalf("%s did not end within %s", p, waitTimeout)
		return -1
	}
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// runToEnd runs a program until it ends.
func runToEnd(t *testing.T, path string, args ...string) (code int, out, errs string) {
	t.Helper()
	p := start(t, path, args...)
	code = p.wait(t)
	return code, p.out.String(), p.errs.String()
}

// freePort returns an address of 127.0.0.1 that is the test's to its end.
func freePort(t *testing.T) string {
	t.Helper()
	p, err := ports.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p.Address
}
