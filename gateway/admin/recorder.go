package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"usher/backends"
)

// Recorder holds the metrics of what happens: decisions, openings, calls of backends, refusals. What is a state is read at the
// time of a scrape. Its labels are names of the config and closed sets. It is safe for concurrent use.
type Recorder struct {
	decisions, freeRides, freeRideTime, breakerChanges, refusals, overloads *prometheus.CounterVec
	sessions                                                                *prometheus.GaugeVec
	openings, calls                                                         *prometheus.HistogramVec
	reloads                                                                 reloadMetrics
}

// NewRecorder returns a recorder of nothing.
func NewRecorder() *Recorder {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help,
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}, // the default deadlines are 1 s and 2 s
		}, labels)
	}
	return &Recorder{
		reloads: newReloadMetrics(),
		decisions: counter("usher_decisions_total",
			"Decisions that sessions of this node took, re-checks included.", "route", "backend", "verdict", "source"),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "usher_sessions", Help: "Sessions on this node by state: allowed, unverified (allowed without an answer), denied, pending.",
		}, []string{"route", "backend", "state"}),
		freeRides: counter("usher_free_rides_total",
			"Viewers who watched without an answer and whom the backend then denied.", "route", "backend"),
		freeRideTime: counter("usher_free_ride_seconds_total",
			"Time that such viewers watched.", "route", "backend"),
		openings: histogram("usher_opening_duration_seconds",
			"Time that a viewer waited for a session's first decision.", "route", "backend", "verdict"),
		calls: histogram("usher_backend_call_duration_seconds",
			"Time of a call of the backend, by its answer or failure.", "backend", "outcome"),
		breakerChanges: counter("usher_backend_breaker_transitions_total",
			"Changes of the breaker's state, by the new one.", "backend", "state"),
		refusals: counter("usher_refusals_total",
			"Responses that refused a viewer, by the reason.", "route", "reason"),
		overloads: counter("usher_overloads_total",
			"Viewers turned away by a bound of this node, by its setting.", "setting"),
	}
}

// collectors returns all metrics.
func (m *Recorder) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.decisions, m.sessions, m.freeRides, m.freeRideTime, m.openings, m.calls, m.breakerChanges, m.refusals, m.overloads,
		m.reloads.total, m.reloads.isSuccess, m.reloads.succeeded,
	}
}

// stateOf returns the state of a session with that decision.
func stateOf(d *backends.Decision) string {
	switch {
	case d.Verdict == backends.Allowed && !d.Source.IsAuthoritative():
		return "unverified"
	default:
		return d.Verdict.String()
	}
}

// Decided counts a session's new decision, and the session in its new state.
func (m *Recorder) Decided(r *backends.Request, before, after *backends.Decision) {
	if before != nil {
		m.sessions.WithLabelValues(r.Route, r.Backend, stateOf(before)).Dec()
	}
	if after != nil {
		m.sessions.WithLabelValues(r.Route, r.Backend, stateOf(after)).Inc()
		m.decisions.WithLabelValues(r.Route, r.Backend, after.Verdict.String(), after.Source.String()).Inc()
	}
}

// Waited records how long the viewer waited for a first decision.
func (m *Recorder) Waited(r *backends.Request, d *backends.Decision, waited time.Duration) {
	m.openings.WithLabelValues(r.Route, r.Backend, d.Verdict.String()).Observe(waited.Seconds())
}

// Verified counts a free ride if the viewer, who watched without an answer, is denied by the backend.
func (m *Recorder) Verified(r *backends.Request, d *backends.Decision, unverified time.Duration) {
	if d.Verdict != backends.Denied || d.Source != backends.FromBackend && d.Source != backends.FromLocal {
		return
	}
	m.freeRides.WithLabelValues(r.Route, r.Backend).Inc()
	m.freeRideTime.WithLabelValues(r.Route, r.Backend).Add(unverified.Seconds())
}

// OnCall returns a function that records the calls of a backend.
func (m *Recorder) OnCall(backend string) func(d backends.Decision, err error, took time.Duration) {
	return func(d backends.Decision, err error, took time.Duration) {
		outcome := d.Verdict.String()
		if err != nil {
			outcome = "cancelled" // the viewer left
			if f := backends.AsFailure(err); f != nil {
				outcome = f.Kind.String()
			}
		}
		m.calls.WithLabelValues(backend, outcome).Observe(took.Seconds())
	}
}

// OnBreaker returns a function that counts the changes of a backend's breaker.
func (m *Recorder) OnBreaker(backend string) func(backends.BreakerState) {
	for _, state := range breakerStates() {
		m.breakerChanges.WithLabelValues(backend, state) // zero is a value too
	}
	return func(s backends.BreakerState) { m.breakerChanges.WithLabelValues(backend, s.String()).Inc() }
}

// Refused counts a response that refuses a viewer. Both names are of closed sets.
func (m *Recorder) Refused(route, reason string) { m.refusals.WithLabelValues(route, reason).Inc() }

// Overloaded counts a viewer whom a bound of the node turned away.
func (m *Recorder) Overloaded(setting string) { m.overloads.WithLabelValues(setting).Inc() }
