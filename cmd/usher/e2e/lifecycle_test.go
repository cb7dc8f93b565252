package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// slowSegment returns a segment whose second half the origin sends after the call of release.
func slowSegment() (h heldPart, release func()) {
	h = heldPart{path: "/play/a001/slow.ts", body: bytes.Repeat([]byte("segment "), 8000), release: make(chan struct{})}
	return h, sync.OnceFunc(func() { close(h.release) })
}

// startSlow fetches the first half of the slow segment through a node, and returns the rest of the body.
func startSlow(t *testing.T, n *node, h heldPart) (rest io.Reader) {
	t.Helper()
	address := n.public + "/~" + ticketFor(t, n, "a001") + h.path
	resp, err := newClient(t, "").Get(address)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("get the slow segment: %v, %v", resp, err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if _, err := io.ReadFull(resp.Body, make([]byte, len(h.body)/2)); err != nil {
		t.Fatalf("get half of the slow segment: %v", err)
	}
	return resp.Body
}

func TestNode_Drains(t *testing.T) {
	t.Parallel()
	h, release := slowSegment()
	defer release()
	n := startNode(t, setup{
		origin: startStage(t, h.hook), middleware: startMiddleware(t).URL(), more: "drain: { readiness_delay: 3s, timeout: 1m }",
	})
	rest := startSlow(t, n, h)
	n.signal(syscall.SIGTERM)
	eventually(t, waitTimeout, "readiness is off", func() error { return n.readiness(http.StatusServiceUnavailable) })
	// Balancers have not noticed yet, so the node serves new viewers.
	if status, _, err := fetch(newClient(t, ""), n.public+"/play/a001/index.m3u8?token=good-late"); err != nil || status != http.StatusOK {
		t.Errorf("a viewer after readiness went off: %d, %v", status, err)
	}
	eventually(t, waitTimeout, "the listener is closed", func() error {
		conn, err := net.Dial("tcp", host(n.public))
		if err != nil {
			return nil //nolint:nilerr // a refused connection is the condition
		}
		_ = conn.Close()
		return fmt.Errorf("the node still takes connections")
	})
	if n.ended() {
		t.Fatal("the node ended with a segment in flight")
	}
	release()
	if body, err := io.ReadAll(rest); err != nil || !bytes.Equal(body, h.body[len(h.body)/2:]) {
		t.Errorf("the segment in flight ended after %d more bytes: %v", len(body), err)
	}
	if code := n.wait(t); code != 0 {
		t.Errorf("the node ended with %d, want 0", code)
	}
}

func TestNode_SecondSignal_ExitsAtOnce(t *testing.T) {
	t.Parallel()
	h, release := slowSegment()
	defer release()
	n := startNode(t, setup{
		origin: startStage(t, h.hook), middleware: startMiddleware(t).URL(), more: "drain: { readiness_delay: 10m, timeout: 10m }",
	})
	startSlow(t, n, h)
	n.signal(syscall.SIGTERM)
	eventually(t, waitTimeout, "readiness is off", func() error { return n.readiness(http.StatusServiceUnavailable) })
	n.signal(syscall.SIGTERM)
	if code := n.wait(t); code != 2 { // waitTimeout is much shorter than drain.timeout
		t.Errorf("the node ended with %d, want 2", code)
	}
}

// TestNode_FirstProcess_EndsBySignals runs the node as a container does: as process 1, which has no default for a signal and whose
// children nobody else waits for. It needs root.
func TestNode_FirstProcess_EndsBySignals(t *testing.T) {
	t.Parallel()
	s := setup{origin: startStage(t, nil), middleware: startMiddleware(t).URL()}
	tests := map[string]struct {
		drain   string
		signals int
		code    int
	}{
		"one signal":  {"drain: { readiness_delay: 0s, timeout: 1m }", 1, 0},
		"two signals": {"drain: { readiness_delay: 10m, timeout: 10m }", 2, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s
			s.more = test.drain
			n := newNode(t, s)
			cmd := exec.Command(binary(t), "serve", "--config", n.file)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
			n.process = startCommand(t, cmd)
			n.awaitReady(t)
			if status, _, err := fetch(newClient(t, ""), n.public+"/play/a001/index.m3u8?token=good-one"); err != nil || status != http.StatusOK {
				t.Errorf("a viewer: %d, %v", status, err)
			}
			proc := fmt.Sprintf("/proc/%d/", n.cmd.Process.Pid)
			if text, err := os.ReadFile(proc + "status"); err != nil || !regexp.MustCompile(`(?m)^NSpid:\s+\d+\s+1$`).Match(text) {
				t.Errorf("it is not process 1: %v\n%s", err, text)
			}
			threads, err := filepath.Glob(proc + "task/*/children")
			if err != nil || len(threads) == 0 {
				t.Errorf("children: %v, %v", threads, err)
			}
			for _, thread := range threads {
				if text, err := os.ReadFile(thread); err == nil && len(text) > 0 { // a thread may have ended
					t.Errorf("it has the child %s", text)
				}
			}
			n.signal(syscall.SIGTERM)
			if test.signals == 2 {
				eventually(t, waitTimeout, "readiness is off", func() error { return n.readiness(http.StatusServiceUnavailable) })
				n.signal(syscall.SIGTERM)
			}
			if code := n.wait(t); code != test.code {
				t.Errorf("the node ended with %d, want %d", code, test.code)
			}
		})
	}
}

func TestNode_InvalidSettings_NamesPositions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	text := setup{origin: "http://127.0.0.1:9", middleware: "http://127.0.0.1:9"}.yaml("127.0.0.1:0", "127.0.0.1:0")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := runToEnd(t, binary(t), "validate", "--config", path); code != 0 || errs != "" || !strings.Contains(out, "ok") {
		t.Errorf("validate of a good file: %d, %q, %q; want 0 and ok", code, out, errs)
	}
	tests := map[string]struct{ line, says string }{
		"an unknown key":   {"lisen: 1", `lisen: unknown key; did you mean "listen"?`},
		"a broken value":   {"limits: { read_timeout: soon }", "limits.read_timeout"},
		"broken YAML":      {"limits: { read_timeout: 1s", ""},
		"a value too low":  {"limits: { max_concurrent_requests: 0 }", "limits.max_concurrent_requests"},
		"a missing secret": {"tls: { cert_file: a.pem }", "tls"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "usher.yaml")
			if err := os.WriteFile(path, []byte(text+test.line+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			position := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(path) + `:[1-9]\d*:[1-9]\d*: .*` + regexp.QuoteMeta(test.says))
			for _, command := range []string{"validate", "serve"} {
				code, out, errs := runToEnd(t, binary(t), command, "--config", path)
				if code != 2 || out != "" || !position.MatchString(errs) {
					t.Errorf("%s: exit code %d, %q\n%s\nwant 2 and a line like %s", command, code, out, errs, position)
				}
			}
		})
	}
}

func TestNode_Version(t *testing.T) {
	t.Parallel()
	if code, out, errs := runToEnd(t, binary(t), "version"); code != 0 || !regexp.MustCompile(`^usher \S+ \(commit .*\)\n$`).MatchString(out) || errs != "" {
		t.Errorf("version: %d, %q, %q", code, out, errs)
	}
}
