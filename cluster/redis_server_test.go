package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/backends/backendtest/testproc"
)

// redisServer is a real redis-server of a test's own, on a unix socket.
type redisServer struct {
	socket string
	cmd    *exec.Cmd
	wait   func() error
	client *redis.Client // of the test's own
}

// startRedis starts a redis-server and waits until it answers. It ends with the test.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is missing, from the Debian package redis-server:\n" +
			"  apt-get install -y --no-install-recommends redis-server")
	}
	folder := t.TempDir()
	s := &redisServer{socket: filepath.Join(folder, "redis.sock")}
	s.cmd = exec.Command(path, append([]string{ // no context: it is ended below
		"--port", "0", "--unixsocket", s.socket, "--save", "", "--appendonly", "no", "--dir", folder,
	}, args...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.wait, err = testproc.Start(s.cmd); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	s.client = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, MaxRetries: -1})
	t.Cleanup(func() {
		_ = s.client.Close()
		s.signal(syscall.SIGCONT)
		s.signal(syscall.SIGKILL)
		_ = s.wait()
	})
	s.await(t)
	return s
}

// await waits until the server answers.
func (s *redisServer) await(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	patience, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		err := s.client.Ping(patience).Err()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-patience.Done():
			t.Fatalf("redis-server does not answer: %v", err)
		}
	}
}

// reportWork reports how much of its one thread's time the server spent on an iteration's scripts: a million microseconds
// a second are all that it has.
func (s *redisServer) reportWork(b *testing.B) {
	b.Helper()
	info, err := s.client.Info(b.Context(), "commandstats").Result()
	must(b, err)
	var calls, spent int
	for line := range strings.Lines(info) {
		if n, _ := fmt.Sscanf(line, "cmdstat_evalsha:calls=%d,usec=%d", &calls, &spent); n == 2 {
			b.ReportMetric(float64(spent)/float64(b.N), "redis-µs/op")
		}
	}
}

func (s *redisServer) signal(sig syscall.Signal) { _ = syscall.Kill(-s.cmd.Process.Pid, sig) }

// direct runs scripts one by one, for tests of scripts alone.
type direct struct{ redis.Cmdable }

func (d direct) run(ctx context.Context, s *script, keys []string, args ...any) (any, error) {
	v, err := d.Eval(ctx, s.source, keys, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return v, nil
}
