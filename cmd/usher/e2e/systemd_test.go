package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/backends/backendtest/testproc"
	"usher/bench/strict"
)

// serviceManager starts nodes as systemd does: it holds the sockets of nodes that follow one another, and hears what they notify.
type serviceManager struct {
	sockets []*os.File
	names   []string // of the sockets
	notify  *net.UnixConn
	// environment is what the nodes get besides.
	environment []string
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	folder, err := os.MkdirTemp("", "notify") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	m := &serviceManager{}
	if m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(folder, "s"), Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.notify.Close()
		_ = os.RemoveAll(folder)
		for _, s := range m.sockets {
			_ = s.Close()
		}
	})
	return m
}

// hold opens a socket that each node gets.
func (m *serviceManager) hold(t *testing.T, name, network, address string) {
	t.Helper()
	var inner interface {
		File() (*os.File, error)
		Close() error
	}
	switch network {
	case "tcp":
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		inner, _ = l.(*net.TCPListener)
	default:
		c, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		inner, _ = c.(*net.UDPConn)
	}
	file, err := inner.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = inner.Close() // the file is the socket too
	m.sockets, m.names = append(m.sockets, file), append(m.names, name)
}

// start starts a program with the sockets.
func (m *serviceManager) start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	// LISTEN_PID is the node's, which the shell becomes.
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, path}, args...)...)
	cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+m.notify.LocalAddr().String()), m.environment...)
	if len(m.sockets) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", len(m.sockets)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
		cmd.ExtraFiles = m.sockets
	}
	return startCommand(t, cmd)
}

// await returns the next message but those of the watchdog, by the names of what it assigns. It must assign the state.
func (m *serviceManager) await(t *testing.T, state string) map[string]string {
	t.Helper()
	message := make([]byte, 64<<10)
	for {
		if err := m.notify.SetReadDeadline(time.Now().Add(waitTimeout)); err != nil {
			t.Fatal(err)
		}
		n, err := m.notify.Read(message)
		if err != nil {
			t.Fatalf("no message with %s: %v", state, err)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(message[:n])) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			got[name] = value
		}
		if _, isWatchdog := got["WATCHDOG"]; isWatchdog && state != "WATCHDOG" {
			continue
		}
		if got[state] != "1" {
			t.Fatalf("notified %q, want %s=1", message[:n], state)
		}
		return got
	}
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

// writeCertificate writes a certificate for 127.0.0.1 and its key, and returns their files and who trusts them.
func writeCertificate(t *testing.T) (certFile, keyFile string, trusting *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certFile, keyFile = filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: server.Certificate().Raw}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return certFile, keyFile, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// buildRelease builds the program as a release, with the race detector.
func buildRelease(t *testing.T, version string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "usher")
	var out bytes.Buffer
	cmd := exec.Command("go", "build", "-race", "-ldflags=-s -w -X main.release="+version, "-o", path, "usher/cmd/usher")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := testproc.Run(cmd); err != nil {
		t.Fatalf("build %s: %v\n%s", version, err, out.Bytes())
	}
	return path
}

// TestNode_SocketActivation_UpgradesFailNoRequest replaces a program by another release, again and again, while clients that never
// repeat a request ask for a playlist: systemd's part holds the socket. It runs alone: a client that gets no processor time for
// readiness_delay does not learn that its connection ends.
func TestNode_SocketActivation_UpgradesFailNoRequest(t *testing.T) {
	const release = "1.2.3"
	programs := []string{binary(t), buildRelease(t, release)}
	tests := map[string]struct {
		isSecure bool
		kinds    []strict.Kind
	}{
		"plain": {false, []strict.Kind{strict.Kept, strict.Each}},
		"TLS":   {true, []strict.Kind{strict.Kept, strict.Each, strict.HTTP2}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, scheme := freePort(t), "http"
			s := setup{
				origin: startStage(t, nil), middleware: startMiddleware(t).URL(), more: "drain: { readiness_delay: 3s, timeout: 30s }",
			}
			var trusting *tls.Config
			if test.isSecure {
				var certFile, keyFile string
				certFile, keyFile, trusting = writeCertificate(t)
				s.more += fmt.Sprintf("\ntls: { cert_file: %q, key_file: %q }", certFile, keyFile)
				scheme = "https"
			}
			m := newServiceManager(t)
			m.hold(t, "public", "tcp", address)
			settings := writeSettings(t, address, s)
			// dpkg replaces the file of a running program too.
			program := filepath.Join(t.TempDir(), "usher")
			install := func(n int) *process {
				isRelease := n%len(programs) == 1
				if err := os.Symlink(programs[n%len(programs)], program+".new"); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(program+".new", program); err != nil {
					t.Fatal(err)
				}
				p := m.start(t, program, "serve", "--config", settings)
				if got := m.await(t, "READY")["STATUS"]; strings.HasSuffix(got, "version "+release) != isRelease {
					t.Fatalf("status %q, want version %s: %t", got, release, isRelease)
				}
				return p
			}
			running := install(0)
			var loads []*strict.Load
			for _, kind := range test.kinds {
				load, err := strict.Start(t.Context(), strict.Options{
					URL: fmt.Sprintf("%s://%s/play/a001/index.m3u8?token=good-%s", scheme, address, kind), TLS: trusting, Kind: kind,
					Clients: 4, Pause: 100 * time.Millisecond, Timeout: waitTimeout,
				})
				if err != nil {
					t.Fatal(err)
				}
				loads = append(loads, load)
			}
			const upgrades = 4
			for upgrade := range upgrades {
				awaitRequests(t, loads, 40)
				running.signal(syscall.SIGTERM)
				m.await(t, "STOPPING")
				if code := running.wait(t); code != 0 {
					t.Fatalf("the node ended with %d, want 0", code)
				}
				running = install(upgrade + 1)
			}
			awaitRequests(t, loads, 40)
			for i, load := range loads {
				result := load.Stop()
				if result.Failed > 0 {
					t.Errorf("%s: %v", test.kinds[i], result)
				}
				t.Logf("%s, %d upgrades: %v", test.kinds[i], upgrades, result)
			}
		})
	}
}

// awaitRequests waits until each load has requested so many times more.
func awaitRequests(t *testing.T, loads []*strict.Load, more int64) {
	t.Helper()
	for _, load := range loads {
		before := load.Requests()
		eventually(t, waitTimeout, "clients request", func() error {
			if got := load.Requests() - before; got < more {
				return fmt.Errorf("%d did", got)
			}
			return nil
		})
	}
}

// TestNode_SocketActivation_WrongSockets_NamesThem passes sockets that no setting takes. Viewers would wait in them for ever.
func TestNode_SocketActivation_WrongSockets_NamesThem(t *testing.T) {
	t.Parallel()
	listen := freePort(t)
	settings := writeSettings(t, listen, setup{origin: "http://127.0.0.1:9", middleware: "http://127.0.0.1:9"})
	tests := map[string]struct{ name, network, address, says string }{
		"a name of no setting": {"usher.socket", "tcp", listen, `systemd passes the socket "usher.socket" at ` + listen + `, which no setting takes; want`},
		"a setting that is empty": {
			"ext_authz", "tcp", "127.0.0.1:0", `systemd passes the socket "ext_authz" at 127.0.0.1:`,
		},
		"another address than the setting's": {
			"public", "tcp", "127.0.0.2:0", `listen: "` + listen + `", but systemd passes the socket "public" at 127.0.0.2:`,
		},
		"a socket without connections": {"public", "udp", "127.0.0.1:0", `systemd passes "public", in which no connection arrives`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newServiceManager(t)
			m.hold(t, test.name, test.network, test.address)
			p := m.start(t, binary(t), "serve", "--config", settings)
			if code := p.wait(t); code != 2 || !strings.Contains(p.errs.String(), test.says) {
				t.Errorf("ended with %d and %q; want 2 and %q", code, p.errs, test.says)
			}
		})
	}
}

// TestNode_Notify_TellsStates has a node start, reload, refuse settings, live and end.
func TestNode_Notify_TellsStates(t *testing.T) {
	t.Parallel()
	listen := freePort(t)
	s := setup{origin: startStage(t, nil), middleware: startMiddleware(t).URL(), more: "drain: { readiness_delay: 0s, timeout: 7s }"}
	settings := writeSettings(t, listen, s)
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	m := newServiceManager(t)
	m.environment = []string{"WATCHDOG_USEC=200000"}
	p := m.start(t, binary(t), "serve", "--config", settings)
	serving := "serving at " + listen
	if got := m.await(t, "READY")["STATUS"]; !strings.HasPrefix(got, serving) {
		t.Errorf("status %q, want %q first", got, serving)
	}
	for range 3 {
		m.await(t, "WATCHDOG")
	}
	for _, reload := range []struct{ lines, status string }{
		{"sessions: { recheck: { min: 31s } }", ""},
		{"sessions: { recheck: { min: soon } }", "settings refused, keeping previous"},
	} {
		changed := bytes.Replace(text, []byte("sessions: {  }"), []byte(reload.lines), 1)
		if bytes.Equal(changed, text) {
			t.Fatal("the settings have no such line")
		}
		if err := os.WriteFile(settings, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGHUP)
		if got := m.await(t, "RELOADING")["MONOTONIC_USEC"]; len(got) == 0 || strings.Trim(got, "0123456789") != "" {
			t.Errorf("MONOTONIC_USEC=%q", got)
		}
		if got := m.await(t, "READY")["STATUS"]; !strings.HasPrefix(got, serving) || !strings.Contains(got, reload.status) {
			t.Errorf("%s: status %q, want %q and %q", reload.lines, got, serving, reload.status)
		}
	}
	p.signal(syscall.SIGTERM)
	if got := m.await(t, "STOPPING"); got["STATUS"] != "draining" || got["EXTEND_TIMEOUT_USEC"] != "22000000" {
		t.Errorf("notified %v", got)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("the node ended with %d, want 0", code)
	}
}
