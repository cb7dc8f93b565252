package smarty

import (
	"testing"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

// The status decides as for every kind; the code counts where it allows.
func TestBackend_Presets(t *testing.T) {
	t.Parallel()
	backendtest.RunPresets(t, func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend {
		return newBackend(t, address, func(c *Config) {
			c.HTTP.Preset, c.HTTP.DialTimeout, c.HTTP.TLSTimeout = preset, time.Minute, time.Minute
		})
	},
		backendtest.WithDialect(respondingWith(200, `{"error":0}`)),
		// Where redirects are followed, the login page at their end has no code.
		backendtest.WithRows(httpbackend.PresetAuthProxy, `
302 to its own login page | malformed | unexpected_answer | policy denies | policy denies | policy denies
`),
	)
}
