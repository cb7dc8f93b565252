package e2e

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"usher/bench/stage"
)

// startStage runs the stage's origin, whose channels are the same at every request. hook, if not nil, wraps it.
func startStage(t *testing.T, hook func(http.Handler) http.Handler) string {
	t.Helper()
	server := httptest.NewServer(stage.NewOrigin(stage.Config{SegmentDuration: time.Second, Hook: hook}))
	t.Cleanup(func() {
		server.CloseClientConnections() // a low-latency playlist may be held
		server.Close()
	})
	return server.URL
}
