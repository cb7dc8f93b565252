package e2e

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"usher/bench/stage"
)

// startStage runs the stage's origin. hook, if not nil, wraps it. Segments stay available for twenty seconds, so that a
// player on a busy machine finds them.
func startStage(t *testing.T, hook func(http.Handler) http.Handler) string {
	t.Helper()
	server := httptest.NewServer(stage.NewOrigin(stage.Config{SegmentDuration: time.Second, Window: 20, Hook: hook}))
	t.Cleanup(func() {
		server.CloseClientConnections() // a low-latency playlist may be held
		server.Close()
	})
	return server.URL
}
