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
204 | malformed | unexpected_status, unexpected_answer | come back | let in | kept
400 | malformed | unexpected_status, unexpected_answer | come back | let in | kept
`),
		backendtest.WithRows(httpbackend.PresetAlta, `
204 | malformed | unexpected_answer                    | come back | let in | kept
400 | malformed | unexpected_answer                    | come back | let in | kept
404 | malformed | unexpected_answer                    | come back | let in | kept
429 | malformed | unexpected_answer                    | come back | let in | kept
500 | malformed | unexpected_answer                    | come back | let in | kept
502 | malformed | unexpected_answer                    | come back | let in | kept
503 | malformed | unexpected_answer                    | come back | let in | kept
`),
		backendtest.WithRows(httpbackend.PresetFlussonic, `
204 | malformed | unexpected_answer                    | come back | come back | kept
400 | malformed | unexpected_answer                    | come back | come back | kept
404 | malformed | unexpected_answer                    | come back | come back | kept
`),
		backendtest.WithRows(httpbackend.PresetAuthProxy, `
204 | malformed | unexpected_answer                    | shut out | shut out | shut out
400 | malformed | unexpected_answer                    | shut out | shut out | shut out
404 | malformed | unexpected_answer                    | shut out | shut out | shut out
429 | malformed | unexpected_answer                    | shut out | shut out | shut out
500 | malformed | unexpected_answer                    | shut out | shut out | shut out
502 | malformed | unexpected_answer                    | shut out | shut out | shut out
503 | malformed | unexpected_answer                    | shut out | shut out | shut out
302 to its own login page | malformed | unexpected_answer | shut out | shut out | shut out
`),
	)
}
