package attack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// reporting is how often it tells what it has done.
	reporting = 100 * time.Millisecond
	// ending is how long it may take to end by itself.
	ending = 5 * time.Second
)

// RunBy attacks as [Attack.Run] does, by a process of its own, so that what viewers of this one notice is the server's. The program
// calls [Serve] with the arguments behind those of the command.
func (a *Attack) RunBy(ctx context.Context, command []string, base, path string) error {
	// A real attacker has processors of its own: this one gets what the server and its viewers leave, where Linux can do that.
	if _, err := exec.LookPath("chrt"); err == nil {
		command = append([]string{"chrt", "--idle", "0"}, command...)
	}
	arguments := []string{a.kind, strconv.Itoa(a.count), strconv.FormatFloat(a.rate, 'f', 0, 64), base, path}
	process := exec.CommandContext(ctx, command[0], slices.Concat(command[1:], arguments)...)
	var complaint strings.Builder
	process.Stderr = &complaint
	process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
	process.WaitDelay = ending
	reports, err := process.StdoutPipe()
	if err != nil {
		return fmt.Errorf("attack: %w", err)
	}
	if err := process.Start(); err != nil {
		return fmt.Errorf("attack: %w", err)
	}
	a.pid.Store(int64(process.Process.Pid))
	defer a.pid.Store(0)
	for decoder := json.NewDecoder(reports); err == nil; {
		var s Stats
		if err = decoder.Decode(&s); err == nil {
			a.set(s)
		}
	}
	_ = process.Wait() // its state says the same
	// A code below 0 is that of the signal, which may come before the process takes it.
	if state := process.ProcessState; ctx.Err() == nil || state.ExitCode() > 0 {
		return fmt.Errorf("attack: %s ended (%s): %w %s", strings.Join(command, " "), state, errEnded, strings.TrimSpace(complaint.String()))
	}
	return nil
}

var errEnded = errors.New("its process should attack until it is told to end")

func (a *Attack) set(s Stats) {
	a.open.Store(s.Connections)
	a.closed.Store(s.Closed)
	a.answered.Store(s.Answers)
	a.served.Store(s.Served)
	a.resets.Store(s.Resets)
	a.refused.Store(s.Refused)
}

// PID returns the id of the process that attacks; 0: none but this one does.
func (a *Attack) PID() int { return int(a.pid.Load()) }

// Serve is what a process does that attacks for [Attack.RunBy], with the last five arguments of its command line, until ctx ends. It
// writes what it has done.
func Serve(ctx context.Context, arguments []string, w io.Writer) error {
	const kind, count, rate, base, path, all = 0, 1, 2, 3, 4, 5
	if len(arguments) != all {
		return fmt.Errorf("%w: %d arguments", errUnknown, len(arguments))
	}
	a, err := Parse(arguments[kind], arguments[count])
	if err != nil {
		return err
	}
	if a.rate, err = strconv.ParseFloat(arguments[rate], 64); err != nil {
		return fmt.Errorf("rate %q: %w", arguments[rate], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, arguments[base], arguments[path]) }()
	reports := json.NewEncoder(w)
	ticker := time.NewTicker(reporting)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := reports.Encode(a.Stats()); err != nil {
				return fmt.Errorf("report: %w", err)
			}
		case err := <-ended:
			return errors.Join(err, reports.Encode(a.Stats()))
		}
	}
}
