package flussonic

import (
	"testing"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

func TestBackend_Presets(t *testing.T) {
	backendtest.RunPresets(t, func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend {
		cfg := DefaultConfig()
		cfg.HTTP.Address, cfg.HTTP.Preset = address, preset
		cfg.HTTP.DialTimeout, cfg.HTTP.TLSTimeout = time.Minute, time.Minute // so that a busy machine causes no failure
		b, err := New("middleware", cfg, httpbackend.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}
