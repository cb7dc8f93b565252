package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// socketUnit holds a listener for programs that follow one another, and hears what they notify, as systemd does.
type socketUnit struct {
	file   *os.File
	notify *net.UnixConn
}

func newSocketUnit(t *testing.T, address string) *socketUnit {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tcp, _ := listener.(*net.TCPListener)
	file, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()                      // the file is the listener too
	folder, err := os.MkdirTemp("", "notify") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(folder, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = notify.Close()
		_ = file.Close()
		_ = os.RemoveAll(folder)
	})
	return &socketUnit{file, notify}
}

// start starts a node with the listener.
func (u *socketUnit) start(t *testing.T, settings string) *process {
	t.Helper()
	// The process id must be that of the node, which the shell becomes.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary(t), "serve", "--config", settings)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+u.notify.LocalAddr().String())
	cmd.ExtraFiles = []*os.File{u.file}
	return startCommand(t, cmd)
}

// writeSettings writes the settings of a node that listens at the address, and returns the file's path.
func writeSettings(t *testing.T, listen string, s setup) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(path, []byte(s.yaml(listen, freePort(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// await waits until the node notifies a state.
func (u *socketUnit) await(t *testing.T, state string) {
	t.Helper()
	if err := u.notify.SetReadDeadline(time.Now().Add(waitTimeout)); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 4096)
	n, err := u.notify.Read(message)
	if got := string(message[:n]); err != nil || got != state {
		t.Fatalf("notified %q, %v; want %q", got, err, state)
	}
}

// TestNode_SocketActivation_UpgradeFailsNoRequest replaces a program by the next one while viewers request playlists, each on a
// connection of its own. systemd holds the listener, so no request fails.
func TestNode_SocketActivation_UpgradeFailsNoRequest(t *testing.T) {
	t.Parallel()
	address := freePort(t)
	unit := newSocketUnit(t, address)
	settings := writeSettings(t, address, setup{
		origin: startStage(t, nil), middleware: startMiddleware(t).URL(), more: "drain: { readiness_delay: 0s, timeout: 1m }",
	})
	running := unit.start(t, settings)
	unit.await(t, "READY=1")

	var requests, failures atomic.Int64
	var firstFailure atomic.Value
	stop := make(chan struct{})
	var viewers sync.WaitGroup
	for viewer := range 4 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitTimeout}
		viewers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				requests.Add(1)
				status, _, err := fetch(client, fmt.Sprintf("http://%s/play/a001/index.m3u8?token=good-%d", address, viewer))
				if err != nil || status != http.StatusOK {
					failures.Add(1)
					firstFailure.CompareAndSwap(nil, fmt.Sprintf("%d, %v", status, err))
				}
			}
		})
	}
	const upgrades = 3
	for range upgrades {
		before := requests.Load()
		eventually(t, waitTimeout, "viewers request", func() error {
			if got := requests.Load() - before; got < 20 {
				return fmt.Errorf("%d did", got)
			}
			return nil
		})
		running.signal(syscall.SIGTERM)
		unit.await(t, "STOPPING=1")
		if code := running.wait(t); code != 0 {
			t.Fatalf("the node ended with %d, want 0", code)
		}
		running = unit.start(t, settings)
		unit.await(t, "READY=1")
	}
	close(stop)
	viewers.Wait()
	if failures.Load() > 0 {
		t.Errorf("%d of %d requests failed over %d upgrades, the first: %v", failures.Load(), requests.Load(), upgrades, firstFailure.Load())
	}
}

// TestNode_SocketActivation_UnusedSocket_NamesIt passes a socket that no setting names. Viewers would wait in it for ever.
func TestNode_SocketActivation_UnusedSocket_NamesIt(t *testing.T) {
	t.Parallel()
	address := freePort(t)
	unit := newSocketUnit(t, address)
	settings := writeSettings(t, freePort(t), setup{origin: "http://127.0.0.1:9", middleware: "http://127.0.0.1:9"})
	running := unit.start(t, settings)
	if code := running.wait(t); code != 2 || !strings.Contains(running.errs.String(), "systemd passes a socket at "+address) {
		t.Errorf("ended with %d: %s", code, running.errs.String())
	}
}
