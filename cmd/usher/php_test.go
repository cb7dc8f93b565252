package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/backendtest/testproc"
	"usher/bench/process"
	"usher/bench/stage"
	"usher/cmd/usher/config"
	"usher/gateway"
)

// phpTimeout bounds what a test waits for PHP, and for what must happen after it.
const phpTimeout = 30 * time.Second

// startPHP serves a copy of the scripts in testdata/php with PHP's own server, and returns its address and its folder. It
// answers one request after another: processes for more of them would outlive a test that is killed.
func startPHP(t *testing.T) (address, folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("testdata/php")); err != nil {
		t.Fatal(err)
	}
	port, err := process.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(port.Release)
	out := new(logBuffer)
	cmd := exec.Command("php", "-n", "-S", port.Address, "-t", folder)
	cmd.Stdout, cmd.Stderr = out, out
	wait, err := testproc.Start(cmd)
	if err != nil {
		t.Fatalf("start php, of Debian's package php-cli: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = wait()
	})
	for deadline := time.Now().Add(phpTimeout); ; <-time.After(10 * time.Millisecond) {
		switch {
		case len(out.lines("started")) > 0:
			return "http://" + port.Address, folder
		case len(out.lines("Failed to listen")) > 0:
			t.Fatalf("php does not listen: %q", out.lines(""))
		case time.Now().After(deadline):
			t.Fatalf("php does not start: %q", out.lines(""))
		}
	}
}

// phpNode is a node in front of a script, without listeners.
type phpNode struct {
	*node
	log *logBuffer
}

// newPHPNode starts a node whose backend "portal" is of that kind, at that address and with those settings.
func newPHPNode(t *testing.T, kind, address, more string) *phpNode {
	t.Helper()
	media := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(media.Close)
	text := fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
origins: { stage: { url: %q } }
sessions: { recheck: { min: 1s } }
backends: { portal: { kind: %s, address: %q, answer_deadline: 20s, timeout: 20s, breaker: { interval: 2m, consecutive_failures: 3 }%s } }
routes: [ { path: "/play/{channel}/*", origin: stage, backend: portal } ]
`, media.URL, kind, address, more)
	s := defaultSettings()
	if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{}); err != nil {
		t.Fatal(err)
	}
	log := new(logBuffer)
	n, err := newNode(s, slog.New(slog.NewTextHandler(log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	for _, c := range n.current.Load().chains {
		go func() { _ = c.Run(t.Context()) }()
	}
	return &phpNode{n, log}
}

// play requests a channel's playlist, as a viewer at that address with that query.
func (n *phpNode) play(t *testing.T, viewer, query string) (status int, location string) {
	t.Helper()
	var a gateway.Response
	v := gateway.Request{
		Method: http.MethodGet, Scheme: "http", Host: "tv.example.com", Path: "/play/a001/index.m3u8", Query: query,
		Peer: netip.MustParseAddr(viewer), Header: http.Header{"User-Agent": {"MAG200"}},
	}
	if err := n.current.Load().gateway.Serve(t.Context(), &v, &a); err != nil {
		t.Fatalf("play: %v", err)
	}
	if a.Stream != nil {
		_ = a.Stream.Close()
	}
	for _, field := range a.Fields() {
		if field.Name == "Location" {
			location = field.Value
		}
	}
	return a.Status, location
}

// wantBreakerClosed requires that no answer counted as an outage.
func (n *phpNode) wantBreakerClosed(t *testing.T) {
	t.Helper()
	if state := n.current.Load().chains["portal"].State(); state != backends.BreakerClosed {
		t.Errorf("the breaker is %s, want closed", state)
	}
}

func TestNode_PHP_AddressList(t *testing.T) {
	t.Parallel()
	php, _ := startPHP(t)
	n := newPHPNode(t, "httprequest", php+"/addresses.php", "")
	for i, viewer := range []string{"203.0.113.7", "198.51.100.9", "192.0.2.7", "203.0.113.8"} {
		want := http.StatusForbidden
		if i%2 == 0 {
			want = http.StatusOK
		}
		if status, _ := n.play(t, viewer, fmt.Sprintf("token=%d", i)); status != want {
			t.Errorf("%s: %d, want %d", viewer, status, want)
		}
	}
	if lines := n.log.lines("violates its contract"); len(lines) != 0 { // PHP sends text/html without a body
		t.Errorf("a sound script raised alarms: %q", lines)
	}
	code, out, errs := usher("check", "--ip", "192.0.2.7", "--url", "http://tv.example/play/a001/index.m3u8?token=1",
		"--config", writeFile(t, checkSettings("  portal: { kind: httprequest, address: \""+php+"/addresses.php\" }\n")))
	if code != 0 || !strings.Contains(out, "text/html") || strings.Contains(out, "WARNING") {
		t.Errorf("exit code %d, want 0 and no warning of PHP's Content-Type:\n%s%s", code, out, errs)
	}
}

// TestNode_PHP_PromoOnSameBox redirects more viewers in a row than failures open a breaker.
func TestNode_PHP_PromoOnSameBox(t *testing.T) {
	t.Parallel()
	php, _ := startPHP(t)
	n := newPHPNode(t, "httprequest", php+"/promo.php", "")
	for i := range 4 {
		viewer := fmt.Sprintf("192.0.2.%d", i+1)
		if status, location := n.play(t, viewer, "token=expired"); status != http.StatusFound || location != php+"/promo/index.m3u8" {
			t.Errorf("%s: %d to %q, want 302 to the promo channel and nothing of ours in it", viewer, status, location)
		}
	}
	if status, _ := n.play(t, "192.0.2.77", "token=good"); status != http.StatusOK {
		t.Errorf("a subscriber gets %d, want 200", status)
	}
	n.wantBreakerClosed(t)
}

// TestNode_MovedMiddleware_NamesAddress redirects every check to a new host. It begins as a denial and is noticed.
func TestNode_MovedMiddleware_NamesAddress(t *testing.T) {
	t.Parallel()
	m := middleware(t)
	if err := m.SetMode(backendtest.Redirect("http://new.example.com/check")); err != nil {
		t.Fatal(err)
	}
	n := newPHPNode(t, "httprequest", m.URL()+"/check", "")
	for i := range 40 {
		n.play(t, fmt.Sprintf("192.0.2.%d", i+1), "token=1")
	}
	lines := n.log.lines("alarm=address_moved")
	if len(lines) != 1 || !strings.Contains(lines[0], "set address to http://new.example.com/check") {
		t.Errorf("alarms %q, want one that names the new address", lines)
	}
	if n.current.Load().chains["portal"].State() == backends.BreakerClosed {
		t.Error("the breaker is closed, though the middleware answers nobody")
	}
}

// TestNode_PHP_FatalError admits viewers for no longer than it must, and asks again.
func TestNode_PHP_FatalError(t *testing.T) {
	t.Parallel()
	php, folder := startPHP(t)
	n := newPHPNode(t, "httprequest", php+"/fatal.php", "")
	if status, _ := n.play(t, "192.0.2.1", "token=1"); status != http.StatusOK {
		t.Fatalf("%d, want the 200 of the status", status)
	}
	if lines := n.log.lines("alarm=broken_page"); len(lines) != 1 || !strings.Contains(lines[0], "an error page") {
		t.Errorf("alarms %q, want one of an error page", lines)
	}
	if err := os.WriteFile(filepath.Join(folder, "repaired"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(phpTimeout); ; {
		if status, _ := n.play(t, "192.0.2.1", "token=1"); status == http.StatusForbidden {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the repaired script was not asked again, though its first answer was an error page")
		}
		<-time.After(50 * time.Millisecond)
	}
}

// TestNode_PHP_FatalError_Ministra admits nobody by a portal's error page.
func TestNode_PHP_FatalError_Ministra(t *testing.T) {
	t.Parallel()
	php, _ := startPHP(t)
	n := newPHPNode(t, "ministra", php+"/fatal.php", "")
	if status, _ := n.play(t, "192.0.2.1", "token=1"); status != http.StatusServiceUnavailable {
		t.Errorf("%d, want 503", status)
	}
	if lines := n.log.lines("alarm=broken_page"); len(lines) != 1 {
		t.Errorf("alarms %q, want one", lines)
	}
	settings := "  portal: { kind: ministra, address: \"" + php + "/fatal.php\" }\n"
	wantCheck(t, checkSettings(settings), 2, "an error page", "the backend itself fails", "VIOLATION portal: broken_page")
	ignoring := "  portal: { kind: ministra, address: \"" + php + "/fatal.php\", broken_page: alarm }\n"
	wantCheck(t, checkSettings(ignoring), 0, "WARNING   the answer is an error page", "valid for 10s")
}

func TestNode_PHP_RefusedBeforeSlowBody(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"httprequest", "flussonic", "iptvportal", "ministra", "smarty"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			php, _ := startPHP(t)
			n := newPHPNode(t, kind, php+"/slow.php", "")
			for i := range 4 {
				if status, _ := n.play(t, fmt.Sprintf("192.0.2.%d", i+1), "token=1"); status != http.StatusForbidden {
					t.Errorf("viewer %d: %d, want the 403 of the header", i, status)
				}
			}
			n.wantBreakerClosed(t)
		})
	}
}
