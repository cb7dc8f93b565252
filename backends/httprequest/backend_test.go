package httprequest

import (
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
)

func TestBackendPassesTheContract(t *testing.T) {
	backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
		return newBackend(t, s.URL()+"/check")
	})
}

func newBackend(t *testing.T, address string) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Address = address
	b, err := New("middleware", cfg, backends.HTTPParts{})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}
