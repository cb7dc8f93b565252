// Package testproc starts the programs that tests need, so that none outlives its test binary.
//
// Invariants:
//   - A program dies when the test binary dies, also when that is killed (on Linux; elsewhere it has to be ended).
//   - A program outlives the goroutine that started it.
//
// Refused: a context that kills the program; tests signal whole process groups, freeze programs and wake them up.
package testproc

import (
	"os/exec"
	"runtime"
)

// Start starts the command. Wait waits until it has ended and returns what [exec.Cmd.Wait] returned; it may be called any
// number of times. What the command writes is read by itself, so it takes Stdout and Stderr, not their pipes.
func Start(cmd *exec.Cmd) (wait func() error, err error) {
	endWithParent(cmd)
	started, ended := make(chan error), make(chan struct{})
	var result error
	go func() {
		// The kernel kills the child when the thread that started it ends, which the Go runtime may do with an idle thread.
		// So the thread stays with this goroutine for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		result = cmd.Wait()
		close(ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return func() error {
		<-ended
		return result
	}, nil
}

// Run starts the command and waits until it has ended, as [exec.Cmd.Run] does.
func Run(cmd *exec.Cmd) error {
	wait, err := Start(cmd)
	if err != nil {
		return err
	}
	return wait()
}
