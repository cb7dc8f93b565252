package httprequest

import (
	"testing"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

func TestBackend_Presets(t *testing.T) {
	t.Parallel()
	backendtest.RunPresets(t, func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend {
		return newBackend(t, address+"/check", func(c *Config) {
			c.HTTP.Preset, c.HTTP.DialTimeout, c.HTTP.TLSTimeout = preset, time.Minute, time.Minute
		})
	})
}
