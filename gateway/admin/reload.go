package admin

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The outcomes of a reload.
const (
	// ReloadApplied says that other settings are in force.
	ReloadApplied = "applied"
	// ReloadUnchanged says that the settings are those in force.
	ReloadUnchanged = "unchanged"
	// ReloadRefused says that the settings cannot be used, so that the previous ones stay in force.
	ReloadRefused = "refused"
)

// ReloadResult is what a reload of the settings did.
type ReloadResult struct {
	Outcome string `json:"outcome"`
	// Changed are the paths of the settings that are others now.
	Changed []string `json:"changed,omitempty"`
	// Problems are why the settings were refused.
	Problems []ReloadProblem `json:"problems,omitempty"`
}

// ReloadProblem is one reason why settings were refused.
type ReloadProblem struct {
	// Setting is the path of the setting, and At its place, file:line:column. Both are empty if the file cannot be read.
	Setting string `json:"setting,omitempty"`
	At      string `json:"at,omitempty"`
	Message string `json:"message"`
}

// reload reads the settings of this node anew. The status is 422 if they are refused.
func (h *handler) reload(w http.ResponseWriter, r *http.Request) {
	var result ReloadResult
	if h.Reload == nil {
		result = ReloadResult{Outcome: ReloadRefused, Problems: []ReloadProblem{{Message: "this node has no settings file"}}}
	} else {
		result = h.Reload()
	}
	var err error
	if result.Outcome == ReloadRefused {
		err = fmt.Errorf("refused, problems: %d", len(result.Problems))
	}
	h.log.Record(r, "reload", r.URL.Path, err)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
	}
	_ = encodeJSON(w, result) // it fails only if the client has disconnected
}

// reloadMetrics are the metrics of reloads.
type reloadMetrics struct {
	total                *prometheus.CounterVec
	isSuccess, succeeded prometheus.Gauge
}

func newReloadMetrics() reloadMetrics {
	m := reloadMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_settings_reloads_total", Help: "Reloads of the settings, by outcome.",
		}, []string{"outcome"}),
		isSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_settings_last_reload_successful", Help: "1 if the last reload was not refused, else 0. 1 before the first one.",
		}),
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_settings_last_reload_success_timestamp_seconds", Help: "When the settings in force were last read.",
		}),
	}
	for _, outcome := range []string{ReloadApplied, ReloadUnchanged, ReloadRefused} {
		m.total.WithLabelValues(outcome) // zero is a value too
	}
	m.isSuccess.Set(1)
	m.succeeded.SetToCurrentTime()
	return m
}

// Reloaded counts a reload, at now, by its outcome.
func (m *Recorder) Reloaded(outcome string, now time.Time) {
	m.reloads.total.WithLabelValues(outcome).Inc()
	if outcome == ReloadRefused {
		m.reloads.isSuccess.Set(0)
		return
	}
	m.reloads.isSuccess.Set(1)
	m.reloads.succeeded.Set(float64(now.Unix()))
}
