package e2e

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
)

// TestPlayers_NodeRestart_Continue stops a node with playing viewers and starts it again with the same settings. The recorder
// holds their requests meanwhile, as a balancer with a single node does.
func TestPlayers_NodeRestart_Continue(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		signal syscall.Signal
		code   int
	}{
		"after SIGTERM": {syscall.SIGTERM, 0},
		"after SIGKILL": {syscall.SIGKILL, -1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, setup{
				origin: startStage(t, nil), middleware: startMiddleware(t).URL(), more: "drain: { readiness_delay: 1s, timeout: 10s }",
			})
			rec := startRecorder(t, n.public)
			var viewers []*viewer
			for i := range 10 {
				viewers = append(viewers, newViewer(t, i, fmt.Sprintf("%s/play/a%d/index.m3u8?token=good%d", rec.url, i%3, i)))
			}
			startWatching(t, viewers)
			ffmpeg := startFrames(t, rec.url+"/play/a001/index.m3u8?token=good-ffmpeg")
			eventually(t, waitTimeout, "ffmpeg plays", ffmpeg.hasBegun)
			awaitSegments(t, viewers, 4)
			n.signal(test.signal)
			if code := n.wait(t); code != test.code {
				t.Errorf("the node ended with %d, want %d", code, test.code)
			}
			// The restart comes after at least one refused connection.
			eventually(t, waitTimeout, "a request comes while the node is down", func() error {
				if rec.retryCount() == 0 {
					return fmt.Errorf("none so far")
				}
				return nil
			})
			n.start(t)
			before := len(ffmpeg.frames("video"))
			awaitSegments(t, viewers, 4)
			eventually(t, waitTimeout, "ffmpeg plays on", func() error {
				if now := len(ffmpeg.frames("video")); now < before+25 {
					return fmt.Errorf("%d frames since the restart; %s", now-before, ffmpeg.errs)
				}
				return nil
			})
			wantRestoredByTicket(t, n, rec, len(viewers)+1)
			if test.signal == syscall.SIGTERM {
				wantNoProblems(t, viewers)
			}
		})
	}
}

// wantRestoredByTicket requires every session to be admitted by its ticket alone, and no error status.
func wantRestoredByTicket(t *testing.T, n *node, rec *recorder, count int) {
	t.Helper()
	revived := n.sessions(t, "source=ticket&verdict=allowed")
	if len(revived) != count {
		t.Errorf("%d sessions were admitted by their tickets, want %d; all: %+v", len(revived), count, n.sessions(t, ""))
	}
	for _, e := range rec.list(nil) {
		if e.status >= http.StatusBadRequest {
			t.Error(e)
		}
	}
}
