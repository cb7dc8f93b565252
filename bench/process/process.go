package process

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a started server with its children. Safe for concurrent use.
type Process struct {
	cmd    *exec.Cmd
	output tail
	ended  chan struct{}
}

// settingPrefix begins the variables that override settings of a node.
const settingPrefix = "USHER_"

// Start starts the command in a process group of its own, without the environment's settings of Usher. What it writes is kept for Output.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	cmd.Env = slices.DeleteFunc(cmd.Environ(), func(variable string) bool { return strings.HasPrefix(variable, settingPrefix) })
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	// A child of the server that outlives it holds its output open.
	cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// The kernel signals the child when the thread that started it ends, which the Go runtime may do with an idle one.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// PID returns the id of the process that was started.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err returns nil while the process runs, and then an error with the end of what it wrote.
func (p *Process) Err() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%w: %s", errEnded, strings.TrimSpace(p.Output()))
	default:
		return nil
	}
}

var errEnded = errors.New("it ended by itself")

// Output returns the end of what the process wrote.
func (p *Process) Output() string { return p.output.String() }

// Signal sends a signal to the process alone.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// stopTimeout is how long a server may take to end by itself.
const stopTimeout = 5 * time.Second

// Stop ends the process and its children, and waits for it. It may be called any number of times.
func (p *Process) Stop() {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
	}
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // an error: nothing is left of the group
	<-p.ended
}

// tail keeps the last bytes that were written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
