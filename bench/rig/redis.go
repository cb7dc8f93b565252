package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

	server
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
	cmd := exec.CommandContext(context.WithoutCancel(ctx), r.command[0], r.command[1:]...)
	p, err := process.Start(cmd)
	if err != nil {
		return err
	}
	r.started(p)
	return poll(ctx, p, "redis-server", func() error { return r.send(ctx, "PING") })
}

// send sends a command without arguments, and requires a simple string as its answer.
func (r *redis) send(ctx context.Context, command string) error {
	head, _, err := r.exchange(ctx, command)
	if err == nil && head[0] != '+' {
		err = fmt.Errorf("redis-server answered %s with %.100q", command, head)
	}
	return err
}

// exchange sends a command without arguments, and returns the first line of its answer, and the bulk string that follows if
// there is one.
func (r *redis) exchange(ctx context.Context, command string) (head string, body []byte, err error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", r.port.Address)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(pollTimeout)); err != nil {
		return "", nil, err
	}
	if _, err := c.Write([]byte(command + "\r\n")); err != nil {
		return "", nil, err
	}
	reader := bufio.NewReader(c)
	if head, err = reader.ReadString('\n'); err != nil {
		return "", nil, err
	}
	length, isBulk := strings.CutPrefix(strings.TrimSpace(head), "$")
	if !isBulk {
		return head, nil, nil
	}
	size, err := strconv.Atoi(length)
	if err != nil || size < 0 {
		return "", nil, fmt.Errorf("redis-server answered %s with %.100q", command, head)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(reader, body)
	return head, body, err
}

// RedisInfo returns what redis-server says about itself with INFO, its commands' counts too. It costs Redis about 0.1 ms.
func (g *Rig) RedisInfo(ctx context.Context) (map[string]string, error) {
	if g.redis == nil {
		return nil, fmt.Errorf("%w: redis-server", ErrNoServer)
	}
	_, text, err := g.redis.exchange(ctx, "INFO everything")
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w", err)
	}
	info := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}
