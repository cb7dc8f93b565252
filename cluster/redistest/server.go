package redistest

import (
	"context"
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

// startTimeout is longer than any redis-server takes to start.
const startTimeout = 30 * time.Second

// Server is a redis-server that belongs to one test, on a unix socket.
type Server struct {
	// Socket is the path of the server's socket.
	Socket string
	// Client is the test's own connection.
	Client *redis.Client

	command *exec.Cmd
	wait    func() error
}

// Start starts a redis-server and waits until it answers. The server ends with the test, and with the test's process.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is missing, from the Debian package redis-server:\n" +
			"  apt-get install -y --no-install-recommends redis-server")
	}
	folder := t.TempDir()
	s := &Server{Socket: filepath.Join(folder, "redis.sock")}
	s.command = exec.Command(path, append([]string{ //nolint:noctx // it is ended below
		"--port", "0", "--unixsocket", s.Socket, "--save", "", "--appendonly", "no", "--dir", folder,
	}, args...)...)
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.wait, err = testproc.Start(s.command); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	s.Client = redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket, MaxRetries: -1})
	t.Cleanup(func() {
		_ = s.Client.Close()
		s.Signal(syscall.SIGCONT)
		s.Signal(syscall.SIGKILL)
		_ = s.wait()
	})
	s.waitUntilReady(t)
	return s
}

func (s *Server) waitUntilReady(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		err := s.Client.Ping(ctx).Err()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("redis-server does not answer: %v", err)
		}
	}
}

// Signal sends a signal to the server: SIGSTOP freezes it, SIGCONT lets it run again.
func (s *Server) Signal(signal syscall.Signal) { _ = syscall.Kill(-s.command.Process.Pid, signal) }

// ReportScriptTime reports how much time of its one thread the server spent on the scripts of an iteration. One million
// microseconds a second are all that it has.
func (s *Server) ReportScriptTime(b *testing.B) {
	b.Helper()
	info, err := s.Client.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	var calls, spent int
	for line := range strings.Lines(info) {
		if n, _ := fmt.Sscanf(line, "cmdstat_evalsha:calls=%d,usec=%d", &calls, &spent); n == 2 {
			b.ReportMetric(float64(spent)/float64(b.N), "redis-µs/op")
		}
	}
}
