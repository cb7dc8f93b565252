package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"usher/bench/process"
)

// ErrNoRedis is wrapped by an error for a rig that wants redis-server on a machine without it.
var ErrNoRedis = errors.New("redis-server is not installed (Debian: apt-get install redis-server)")

// HasRedis reports whether redis-server is installed.
func HasRedis() bool {
	_, err := exec.LookPath("redis-server")
	return err == nil
}

// redis is a redis-server.
type redis struct {
	port    *process.Port
	command []string

	mu      sync.Mutex
	process *process.Process
}

func (r *redis) running() *process.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

func (r *redis) close() {
	if p := r.running(); p != nil {
		_ = p.Signal(syscall.SIGKILL) // it may be frozen, and keeps nothing
		p.Stop()
	}
	r.port.Release()
}

// startRedis starts a redis-server. One that is not nil is the caller's to close, with an error too.
func startRedis(ctx context.Context, folder string) (*redis, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNoRedis
	}
	data := filepath.Join(folder, "redis")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	port, err := process.ReservePort()
	if err != nil {
		return nil, err
	}
	_, number, _ := net.SplitHostPort(port.Address) // ReservePort joined it
	r := &redis{port: port, command: []string{
		program, "--port", number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", data,
	}}
	return r, r.start(ctx)
}

func (r *redis) start(ctx context.Context) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), r.command[0], r.command[1:]...) //nolint:gosec // the operator's own
	p, err := process.Start(cmd)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.process = p
	r.mu.Unlock()
	return poll(ctx, p, "redis-server", func() error { return r.send(ctx, "PING") })
}

// send sends a command without arguments and waits for its answer.
func (r *redis) send(ctx context.Context, command string) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", r.port.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(pollTimeout)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(command + "\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if _, err := c.Read(answer); err != nil {
		return err
	}
	if answer[0] != '+' {
		return fmt.Errorf("redis-server answered %s with an error", command)
	}
	return nil
}
