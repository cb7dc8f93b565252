package rig

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"usher/bench/process"
)

// server is a process that faults may end and start anew. Safe for concurrent use.
type server struct {
	mu      sync.Mutex
	process *process.Process
	// isDown says that the process is ended on purpose, and isStopped that it is stopped so.
	isDown, isStopped bool
}

func (s *server) running() *process.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *server) started(p *process.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process, s.isDown, s.isStopped = p, false, false
}

// stop stops the process until resume, without its end.
func (s *server) stop() (resume func(context.Context) error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isStopped = true
	p := s.process
	return func(context.Context) error {
		err := p.Signal(syscall.SIGCONT)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.isStopped = false
		return err
	}, p.Signal(syscall.SIGSTOP)
}

// mustAnswer reports whether no fault keeps the process from answering.
func (s *server) mustAnswer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.isDown && !s.isStopped
}

// end returns the process, whose end is from now on no death.
func (s *server) end() *process.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isDown = true
	return s.process
}

// died returns an error if the process has ended by itself.
func (s *server) died(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.isDown {
		return nil
	}
	if err := s.process.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Died returns an error if a server has ended that no fault ended: what is measured from then on is not of it. It has the end of what
// the server wrote.
func (g *Rig) Died() error {
	var errs []error
	for _, n := range g.Nodes {
		errs = append(errs, n.died(n.Name))
	}
	if g.redis != nil {
		errs = append(errs, g.redis.died("redis-server"))
	}
	if g.peer != nil {
		errs = append(errs, g.peer.Died())
	}
	return errors.Join(errs...)
}
