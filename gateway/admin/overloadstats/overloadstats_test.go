package overloadstats

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/gateway/memory"
)

func TestNew(t *testing.T) {
	t.Parallel()
	c := New(func() Stats {
		return Stats{
			Memory:  memory.Stats{Reading: memory.Reading{Live: 850, Limit: 1000}, ShedsStrangers: true},
			Reached: map[string]uint64{"known_viewers": 3, "stored_denials": 0},
		}
	})
	const want = `
# HELP usher_bound_reached_total What a full queue did not take, or a full cache or table gave up, by the bound.
# TYPE usher_bound_reached_total counter
usher_bound_reached_total{bound="known_viewers"} 3
usher_bound_reached_total{bound="stored_denials"} 0
# HELP usher_memory_limit_bytes Memory that the process may use, GOMEMLIMIT; 0: no limit.
# TYPE usher_memory_limit_bytes gauge
usher_memory_limit_bytes 1000
# HELP usher_memory_live_bytes Memory that cannot be collected, as of the last collection.
# TYPE usher_memory_live_bytes gauge
usher_memory_live_bytes 850
# HELP usher_memory_shedding 1 while no sessions are opened because memory is short, of strangers or of anybody, else 0.
# TYPE usher_memory_shedding gauge
usher_memory_shedding{sessions="all"} 0
usher_memory_shedding{sessions="strangers"} 1
`
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if got := w.Body.String(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
}
