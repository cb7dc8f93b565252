package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/backends/backendtest/testproc"
)

// transcript is what a process wrote. It is safe for concurrent use.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes what the process wrote.
func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// String is all of it so far.
func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// process is a child process, the leader of a group of its own.
type process struct {
	cmd  *exec.Cmd
	out  *transcript
	errs *transcript
	done chan struct{} // closed when it has ended
}

// patience is how long a process may take to start or to end. It is only met by one that never will.
const patience = 60 * time.Second

// start starts a program. It ends with the test at the latest.
func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(path, args...) // no context: its whole group is signalled
	p := &process{cmd: cmd, out: new(transcript), errs: new(transcript), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	wait, err := testproc.Start(cmd)
	if err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	go func() {
		defer close(p.done)
		_ = wait() // the exit code says it all
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		p.inspect(t)
	})
	return p
}

// inspect fails the test for what must never be in a log, and shows the log of a failed one.
func (p *process) inspect(t *testing.T) {
	t.Helper()
	log := p.errs.String()
	if strings.Contains(log, "DATA RACE") || strings.Contains(log, `"msg":"BUG`) || strings.Contains(log, "panic:") {
		t.Errorf("%s has a bug", p)
	}
	if t.Failed() {
		t.Logf("%s wrote:\n%s%s", p, tail(p.out.String()), tail(log))
	}
}

// tail is the end of a log, and its beginning.
func tail(log string) string {
	const head, most = 4 << 10, 24 << 10
	if len(log) <= head+most {
		return log
	}
	return log[:head] + "\n…\n" + log[len(log)-most:]
}

// String names the process in messages.
func (p *process) String() string {
	line := filepath.Base(p.cmd.Path) + " " + strings.Join(p.cmd.Args[1:], " ")
	return line[:min(len(line), 120)]
}

// signal sends the whole group a signal, if it still lives.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its number may be another's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// wait returns the exit code of a process that is expected to end.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s did not end within %s", p, patience)
		return -1
	}
}

// ended reports whether the process is over.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// finish lets a program run to its end.
func finish(t *testing.T, path string, args ...string) (code int, out, errs string) {
	t.Helper()
	p := start(t, path, args...)
	code = p.wait(t)
	return code, p.out.String(), p.errs.String()
}

// givenPorts are the addresses that freePort gave out.
var givenPorts sync.Map

// freePort is a port of 127.0.0.1 on which nobody listens, from below the range of outgoing connections. No address is
// given out twice, here or by freeClusterPort.
func freePort(t *testing.T) string {
	t.Helper()
	const lowest, count = 18000, 12000
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(count))
		if _, given := givenPorts.LoadOrStore(address, true); given {
			continue // whoever it was given to may not listen on it yet
		}
		listener, err := net.Listen("tcp", address)
		if err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatalf("no free port between %d and %d", lowest, lowest+count)
	return ""
}
