package soak

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"usher/bench/process"
	"usher/bench/soak/netns"
)

// server is a process in a host, which can be killed and stopped. Safe for concurrent use.
type server struct {
	host    *netns.Host
	command func() *exec.Cmd
	// serves returns why the server does not serve yet.
	serves func(context.Context) error

	mu      sync.Mutex
	process *process.Process
	// starts is how often the process was started.
	starts int
	isDown bool
	// disturbed is when the process was last killed or stopped, or went on; ended is when the one before it was killed.
	disturbed, ended time.Time
}

const (
	startTimeout = time.Minute
	pollInterval = 20 * time.Millisecond
	pollTimeout  = time.Second
)

// start starts the process, and waits until it serves.
func (s *server) start(ctx context.Context) error {
	p, err := process.Start(s.command())
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.process = p
	s.starts++
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	for {
		err := s.ask(ctx)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.isDown, s.disturbed = false, time.Now()
			return nil
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("%s ended: %s", s.host.Name, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve: %w: %s", s.host.Name, err, p.Output())
		case <-time.After(pollInterval):
		}
	}
}

func (s *server) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return s.serves(ctx)
}

// signal sends a signal, and notes that requests in flight are disturbed by it.
func (s *server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disturbed = time.Now()
	s.isDown = sig != syscall.SIGCONT
	return s.process.Signal(sig)
}

// kill ends the process without warning.
func (s *server) kill() error {
	err := s.signal(syscall.SIGKILL)
	s.mu.Lock()
	p := s.process
	s.ended = s.disturbed
	s.mu.Unlock()
	<-p.Ended()
	return err
}

// number returns how often the process was started.
func (s *server) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// killed returns when the process before this one was killed; zero: there was none.
func (s *server) killed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// isUndisturbed reports whether the process ran without a signal from a time until now.
func (s *server) isUndisturbed(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.isDown && s.disturbed.Before(since)
}

// died returns the end of what a process wrote that ended by itself.
func (s *server) died() (output string, hasDied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.isDown {
		return "", false
	}
	select {
	case <-s.process.Ended():
		return s.process.Output(), true
	default:
		return "", false
	}
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		_ = s.process.Signal(syscall.SIGKILL) // the run is over, and it may be stopped
		s.process.Stop()
	}
}
