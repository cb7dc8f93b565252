package testproc

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVariable makes this test binary a parent with a child of its own.
const roleVariable = "TESTPROC_ROLE"

// timeout bounds the wait for a process's end. Only a failing test reaches it.
const timeout = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "parent" {
		beParent()
		return
	}
	goleak.VerifyTestMain(m)
}

// beParent starts a child that holds this process's output open, reports it, and waits to be killed.
func beParent() {
	child := exec.Command("sleep", "600")
	child.Stdout = os.Stdout
	wait, err := Start(child)
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("started\n")
	_ = wait()
}

func TestStart_ParentKilled_ChildDies(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	output, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	parent := exec.Command(self)
	parent.Env, parent.Stdout, parent.Stderr = append(os.Environ(), roleVariable+"=parent"), held, os.Stderr
	wait, err := Start(parent)
	_ = held.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := output.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(output)
	if line, err := reader.ReadString('\n'); err != nil || line != "started\n" {
		t.Errorf("the parent printed %q, %v; want that its child has started", line, err)
	}
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("kill the parent: %v", err)
	}
	_ = wait()
	// The pipe ends when neither the parent nor its child holds it.
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("after the parent's end: %q, %v; want the end of the child, too", rest, err)
	}
}

func TestStart_StartingThreadEnds_ChildLives(t *testing.T) {
	t.Parallel()
	child := exec.Command("cat")
	to, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	child.Stdout = held
	type result struct {
		wait func() error
		err  error
	}
	started := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends with this goroutine
		wait, err := Start(child)
		started <- result{wait, err}
	}()
	r := <-started
	_ = held.Close()
	if r.err != nil {
		t.Fatal(r.err)
	}
	for range 100 { // the thread ends some time after the goroutine
		ended := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(ended)
		}()
		<-ended
	}
	if _, err := io.WriteString(to, "alive\n"); err != nil {
		t.Errorf("write to the child: %v", err)
	}
	if line, err := bufio.NewReader(from).ReadString('\n'); err != nil || line != "alive\n" {
		t.Errorf("the child printed %q, %v", line, err)
	}
	_ = to.Close()
	for range 2 {
		if err := r.wait(); err != nil {
			t.Errorf("the child ended with %v", err)
		}
	}
}

func TestStart_NoSuchProgram_Error(t *testing.T) {
	t.Parallel()
	if _, err := Start(exec.Command("/nonexistent")); err == nil {
		t.Error("a program that does not exist was started")
	}
	if err := Run(exec.Command("/nonexistent")); err == nil {
		t.Error("a program that does not exist has run")
	}
}

func TestRun_ExitCode_Error(t *testing.T) {
	t.Parallel()
	if err := Run(exec.Command("true")); err != nil {
		t.Errorf("true: %v", err)
	}
	if err := Run(exec.Command("false")); err == nil {
		t.Error("false: want its exit code as an error")
	}
}
