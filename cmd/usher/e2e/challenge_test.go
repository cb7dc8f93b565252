package e2e

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"usher/backends/backendtest"
)

// basicOnly allows alice by her password, and asks every other viewer for one, as a middleware with HTTP authentication
// does.
func basicOnly(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
	if user, password, _ := r.BasicAuth(); user == "alice" && password == "wonderland" {
		w.Header().Set("X-UserId", user)
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Add("WWW-Authenticate", `Basic realm="TV"`)
	w.Header().Add("WWW-Authenticate", "Bearer")
	w.WriteHeader(http.StatusUnauthorized)
}

// TestPlayers_Challenge_FFmpegSendsPassword plays a URL with a user and a password, which ffmpeg sends only when asked.
func TestPlayers_Challenge_FFmpegSendsPassword(t *testing.T) {
	t.Parallel()
	origin := startLive(t)
	t.Run("the gateway", func(t *testing.T) {
		t.Parallel()
		m := startMiddleware(t)
		n := startNode(t, setup{origin: origin.url, middleware: m.URL(), route: "credential_headers: [Authorization]"})
		rec := origin.record(t, n)
		wantPasswordAsked(t, n, m, rec.url)
	})
	for name, startEdge := range askingEdges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEdge(t, origin, "")
			e.restartWith(t, "required: [ token ]", "credential_headers: [ Authorization ]")
			wantPasswordAsked(t, e.node, e.middleware, e.url)
		})
	}
}

// restartWith restarts the node with a part of its settings replaced.
func (n *node) restartWith(t *testing.T, part, by string) {
	t.Helper()
	text, err := os.ReadFile(n.file)
	if err != nil || !strings.Contains(string(text), part) {
		t.Fatalf("no %q in the settings, %v", part, err)
	}
	if err := os.WriteFile(n.file, []byte(strings.Replace(string(text), part, by, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	n.signal(syscall.SIGKILL)
	n.process.wait(t)
	n.start(t)
}

// wantPasswordAsked plays with ffmpeg at an address, where a viewer without a password gets the middleware's challenge.
func wantPasswordAsked(t *testing.T, n *node, m *backendtest.Server, address string) {
	t.Helper()
	m.SetDialect(basicOnly)
	path := "/play/audio/index.m3u8"
	resp, err := n.client.Get(address + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != `Basic realm="TV"` {
		t.Errorf("without a password: %d, WWW-Authenticate %q", resp.StatusCode, got)
	}
	player := startFrames(t, strings.Replace(address, "://", "://alice:wonderland@", 1)+path)
	eventually(t, waitTimeout, "ffmpeg plays", player.hasBegun)
	awaitFrames(t, player, 60)
	if player.ended() || player.errs.String() != "" {
		t.Errorf("ffmpeg was disturbed: %s", player.errs)
	}
	if text := n.errs.String() + n.out.String(); strings.Contains(text, "wonderland") || strings.Contains(text, "YWxpY2U6") {
		t.Errorf("the node's log shows a password:\n%s", text)
	}
}
