package recordstats

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func TestNew(t *testing.T) {
	t.Parallel()
	c := New(func() Stats {
		return Stats{Waiting: 1, WaitingBytes: 600, Open: 2, Delivered: 3, Dropped: 4, FailedRequests: 5}
	})
	const want = `
# HELP usher_records_delivered_total Session records that the webhook took.
# TYPE usher_records_delivered_total counter
usher_records_delivered_total 3
# HELP usher_records_dropped_total Session records that were lost: too many or too old ones waited for the webhook, or the spool failed.
# TYPE usher_records_dropped_total counter
usher_records_dropped_total 4
# HELP usher_records_failed_requests_total Requests to the webhook that failed. Their records are sent again.
# TYPE usher_records_failed_requests_total counter
usher_records_failed_requests_total 5
# HELP usher_records_open_sessions Sessions that are noted as open, so that a kill loses no record. 0 with redis.
# TYPE usher_records_open_sessions gauge
usher_records_open_sessions 2
# HELP usher_records_waiting Session records that wait for the webhook.
# TYPE usher_records_waiting gauge
usher_records_waiting 1
# HELP usher_records_waiting_bytes Room that the waiting session records take of records.spool.max_size.
# TYPE usher_records_waiting_bytes gauge
usher_records_waiting_bytes 600
`
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := w.Body.String(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
}
