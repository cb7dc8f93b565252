package smarty

import (
	"testing"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

// A status without a code is a failure or a redirect where the preset says so, and otherwise a malformed response.
func TestBackend_Presets(t *testing.T) {
	t.Parallel()
	backendtest.RunPresets(t, func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend {
		return newBackend(t, address, func(c *Config) {
			c.HTTP.Preset, c.HTTP.DialTimeout, c.HTTP.TLSTimeout = preset, time.Minute, time.Minute
		})
	},
		backendtest.WithDialect(respondingWith(200, `{"error":0}`)),
		backendtest.WithRefusal(denyingWith),
		backendtest.WithoutConditions("X-Location has no place beside a code", "403 with X-Location"),
		backendtest.WithRows(httpbackend.PresetAstra, `
204 | malformed | unexpected_status, unexpected_answer | retry | fail-open | cached
400 | malformed | unexpected_status, unexpected_answer | retry | fail-open | cached
`),
		backendtest.WithRows(httpbackend.PresetAlta, `
204 | malformed | unexpected_answer | retry | fail-open | cached
400 | malformed | unexpected_answer | retry | fail-open | cached
404 | malformed | unexpected_answer | retry | fail-open | cached
429 | malformed | unexpected_answer | retry | fail-open | cached
500 | malformed | unexpected_answer | retry | fail-open | cached
502 | malformed | unexpected_answer | retry | fail-open | cached
503 | malformed | unexpected_answer | retry | fail-open | cached
`),
		backendtest.WithRows(httpbackend.PresetFlussonic, `
204 | malformed | unexpected_answer | retry | retry | cached
400 | malformed | unexpected_answer | retry | retry | cached
404 | malformed | unexpected_answer | retry | retry | cached
`),
		backendtest.WithRows(httpbackend.PresetAuthProxy, `
204                       | malformed | unexpected_answer | policy denies | policy denies | policy denies
400                       | malformed | unexpected_answer | policy denies | policy denies | policy denies
404                       | malformed | unexpected_answer | policy denies | policy denies | policy denies
429                       | malformed | unexpected_answer | policy denies | policy denies | policy denies
500                       | malformed | unexpected_answer | policy denies | policy denies | policy denies
502                       | malformed | unexpected_answer | policy denies | policy denies | policy denies
503                       | malformed | unexpected_answer | policy denies | policy denies | policy denies
302 to its own login page | malformed | unexpected_answer | policy denies | policy denies | policy denies
`),
	)
}
