package admin

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/admin/overview"
	"usher/gateway/enforcement"
)

// Recorder holds the metrics of what happens: decisions, openings, calls of backends, refusals. What is a state is read at the
// time of a scrape. Its labels are names of the config and closed sets. It is safe for concurrent use.
type Recorder struct {
	decisions, freeRides, freeRideTime, breakerChanges, refusals, overloads *prometheus.CounterVec
	sessions, expired                                                       *prometheus.GaugeVec
	openings, calls                                                         *prometheus.HistogramVec
	reloads                                                                 reloadMetrics
	// counters are what the overview of the live page shows.
	counters *overview.Counters
	begun    begunSeries
	backgroundMetrics
}

// begunSeries are the names of the settings whose series were begun.
type begunSeries struct {
	mu               sync.Mutex
	routes, backends map[string]bool
	bounds           map[string]string // the backend of each
}

// backgroundMetrics are the metrics of what no viewer waits for, and of Redis.
type backgroundMetrics struct {
	rechecksDue, rechecks, evictions      *prometheus.CounterVec
	recheckDelay, revocations, redisCalls *prometheus.HistogramVec
}

// NewRecorder returns a recorder of nothing.
func NewRecorder() *Recorder {
	calls := []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10} // the default deadlines are 1 s and 2 s
	return &Recorder{
		reloads:  newReloadMetrics(),
		counters: overview.NewCounters(),
		begun:    begunSeries{routes: map[string]bool{}, backends: map[string]bool{}, bounds: map[string]string{}},
		decisions: newCounter("usher_decisions_total",
			"Decisions that sessions of this node took, re-checks included.", "route", "backend", "verdict", "source"),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "usher_sessions", Help: "Sessions on this node by state: allowed, unverified (allowed without an answer), denied, pending.",
		}, []string{"route", "backend", "state"}),
		expired: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "usher_sessions_token_expired", Help: "Unverified sessions on this node that no check can verify, because their token is older than token_life.",
		}, []string{"backend"}),
		freeRides: newCounter("usher_free_rides_total",
			"Viewers who watched without an answer and whom the backend then denied.", "route", "backend"),
		freeRideTime: newCounter("usher_free_ride_seconds_total",
			"Time that such viewers watched.", "route", "backend"),
		openings: newHistogram("usher_opening_duration_seconds",
			"Time that a viewer waited for a session's first decision.", calls, "route", "backend", "verdict"),
		calls: newHistogram("usher_backend_call_duration_seconds",
			"Time of a call of the backend, by its answer or failure.", calls, "backend", "outcome"),
		breakerChanges: newCounter("usher_backend_breaker_transitions_total",
			"Changes of the breaker's state, by the new one.", "backend", "state"),
		refusals: newCounter("usher_refusals_total",
			"Responses that refused a viewer, by the reason.", "route", "reason"),
		overloads: newCounter("usher_overloads_total",
			"Viewers turned away by a bound of this node, by its setting.", "setting"),
		backgroundMetrics: newBackgroundMetrics(),
	}
}

func newBackgroundMetrics() backgroundMetrics {
	m := backgroundMetrics{
		rechecksDue: newCounter("usher_backend_rechecks_due_total",
			"Re-checks that became due.", "backend"),
		rechecks: newCounter("usher_backend_rechecks_total",
			"Re-checks that ended: allowed, denied, failed, or unneeded because another node had asked or the session had ended.",
			"backend", "outcome"),
		recheckDelay: newHistogram("usher_backend_recheck_delay_seconds",
			"Time from when a re-check was due until recheck_rate let it be made, outages of the backend included.",
			[]float64{.01, .1, 1, 5, 10, 30, 60, 300, 900, 3600}, "backend"),
		evictions: newCounter("usher_stream_evictions_total",
			"Sessions that played on this node until their user's limit ended them, or until the viewer had gone to another channel.",
			"route", "reason"),
		revocations: newHistogram("usher_revocation_delay_seconds",
			"Time from when another node issued a revocation, such as a kick or a ban, until this node applied it, by Redis' clock.",
			[]float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 60, 300}, "kind"),
		redisCalls: newHistogram("usher_redis_call_duration_seconds",
			"Time that a call of Redis was waited for, by its outcome: ok, unavailable, cancelled, failed.",
			[]float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1}, "operation", "outcome"),
	}
	for kind := session.RevokedDenied; kind <= session.RevokedUnbanned; kind++ {
		m.revocations.WithLabelValues(kind.String()) // begins at zero
	}
	return m
}

func newCounter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func newHistogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// collectors returns all metrics.
func (m *Recorder) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.decisions, m.evictions, m.sessions, m.expired, m.freeRides, m.freeRideTime, m.openings, m.calls, m.breakerChanges, m.refusals,
		m.overloads, m.rechecksDue, m.rechecks, m.recheckDelay, m.revocations, m.redisCalls,
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
	m.counters.Decided(before, after)
	if before != nil {
		m.sessions.WithLabelValues(r.Route, r.Backend, stateOf(before)).Dec()
	}
	if after != nil {
		m.sessions.WithLabelValues(r.Route, r.Backend, stateOf(after)).Inc()
		m.decisions.WithLabelValues(r.Route, r.Backend, after.Verdict.String(), after.Source.String()).Inc()
	}
	if reason, isEvicted := evictionOf(before, after); isEvicted {
		m.evictions.WithLabelValues(r.Route, reason).Inc()
	}
}

// Moved counts a session as one of r.Backend, and no longer of the backend from.
func (m *Recorder) Moved(r *backends.Request, from string, d *backends.Decision) {
	m.sessions.WithLabelValues(r.Route, from, stateOf(d)).Dec()
	m.sessions.WithLabelValues(r.Route, r.Backend, stateOf(d)).Inc()
}

// TokenExpired counts so many more sessions of the backend, or fewer if negative, as unverified ones that no check can verify.
func (m *Recorder) TokenExpired(backend string, sessions int) {
	m.expired.WithLabelValues(backend).Add(float64(sessions))
}

// The reasons of evictions.
const (
	evictedByLimit    = "limit"
	evictedSuperseded = "superseded"
)

// evictionOf returns why the streams of a user ended a session that played.
func evictionOf(before, after *backends.Decision) (reason string, isEvicted bool) {
	switch {
	case before == nil || after == nil || before.Verdict != backends.Allowed,
		after.Verdict != backends.Denied || after.Source != backends.FromLimit:
		return "", false
	case after.Reason == backends.ReasonSuperseded:
		return evictedSuperseded, true
	default:
		return evictedByLimit, true
	}
}

// RecheckDue counts a session that waits for a re-check.
func (m *Recorder) RecheckDue(backend string) { m.rechecksDue.WithLabelValues(backend).Inc() }

// RecheckGranted records how long after it was due a re-check may be made.
func (m *Recorder) RecheckGranted(backend string, delay time.Duration) {
	m.recheckDelay.WithLabelValues(backend).Observe(delay.Seconds())
}

// recheckUnneeded is a re-check for which the backend was not asked.
const recheckUnneeded = "unneeded"

// Rechecked counts a re-check by the backend's answer; nil: it was not asked.
func (m *Recorder) Rechecked(backend string, d *backends.Decision) {
	outcome := recheckUnneeded
	switch {
	case d == nil:
	case !d.Source.IsAuthoritative(): // what the outage policy decided, if anything
		outcome = "failed"
	default:
		outcome = d.Verdict.String()
	}
	m.rechecks.WithLabelValues(backend, outcome).Inc()
}

// RevocationReceived records how long ago another node issued a revocation that this one has applied.
func (m *Recorder) RevocationReceived(kind session.RevocationKind, delay time.Duration) {
	m.revocations.WithLabelValues(kind.String()).Observe(max(0, delay).Seconds())
}

// RedisCalled records a call of Redis. Both names are of closed sets.
func (m *Recorder) RedisCalled(operation, outcome string, took time.Duration) {
	m.redisCalls.WithLabelValues(operation, "unavailable") // begins at zero
	m.redisCalls.WithLabelValues(operation, outcome).Observe(took.Seconds())
}

// Run keeps the last minutes of the overview until ctx ends.
func (m *Recorder) Run(ctx context.Context) { m.counters.Run(ctx) }

// Waited records how long the viewer waited for a first decision.
func (m *Recorder) Waited(r *backends.Request, d *backends.Decision, waited time.Duration) {
	m.counters.Opened()
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

// AddBackend begins the series of a backend, and of the settings that bound it, at zero: the first increase of a series that was not
// there before is none to Prometheus.
func (m *Recorder) AddBackend(backend string, bounds ...string) {
	m.begun.mu.Lock()
	defer m.begun.mu.Unlock()
	m.begun.backends[backend] = true
	for _, setting := range bounds {
		m.begun.bounds[setting] = backend
		m.AddBound(setting)
	}
	for _, state := range breakerStates() {
		m.breakerChanges.WithLabelValues(backend, state)
	}
	for _, outcome := range []string{"allowed", "denied", "failed", recheckUnneeded} {
		m.rechecks.WithLabelValues(backend, outcome)
	}
	m.rechecksDue.WithLabelValues(backend)
	m.recheckDelay.WithLabelValues(backend)
}

// AddRoute begins the series of a route at zero.
func (m *Recorder) AddRoute(route, backend string) {
	m.begun.mu.Lock()
	defer m.begun.mu.Unlock()
	m.begun.routes[route] = true
	for _, state := range []string{"allowed", "unverified", "denied", "pending"} {
		m.sessions.WithLabelValues(route, backend, state)
	}
	m.expired.WithLabelValues(backend)
	for source := backends.FromBackend; source <= backends.FromOperator; source++ {
		m.decisions.WithLabelValues(route, backend, backends.Allowed.String(), source.String())
		m.decisions.WithLabelValues(route, backend, backends.Denied.String(), source.String())
	}
	for _, reason := range enforcement.Reasons() {
		m.refusals.WithLabelValues(route, string(reason))
	}
	m.evictions.WithLabelValues(route, evictedByLimit)
	m.evictions.WithLabelValues(route, evictedSuperseded)
	m.freeRides.WithLabelValues(route, backend)
	m.freeRideTime.WithLabelValues(route, backend)
}

// AddBound begins the series of a bound of this node at zero.
func (m *Recorder) AddBound(setting string) { m.overloads.WithLabelValues(setting) }

// Forget removes the series of the routes and backends that are not to be kept, because nothing counts into them any more.
func (m *Recorder) Forget(keepsRoute, keepsBackend func(name string) bool) {
	m.begun.mu.Lock()
	defer m.begun.mu.Unlock()
	for route := range m.begun.routes {
		if !keepsRoute(route) {
			m.remove("route", route)
			delete(m.begun.routes, route)
		}
	}
	for backend := range m.begun.backends {
		if !keepsBackend(backend) {
			m.remove("backend", backend)
			delete(m.begun.backends, backend)
		}
	}
	for setting, backend := range m.begun.bounds {
		if !m.begun.backends[backend] {
			m.remove("setting", setting)
			delete(m.begun.bounds, setting)
		}
	}
}

// remove removes all series with the label.
func (m *Recorder) remove(label, value string) {
	for _, c := range m.collectors() {
		if series, hasLabels := c.(interface{ DeletePartialMatch(prometheus.Labels) int }); hasLabels {
			series.DeletePartialMatch(prometheus.Labels{label: value})
		}
	}
}

// OnBreaker returns a function that counts the changes of a backend's breaker, and what the overview shows of it once SetBreakers
// has it.
func (m *Recorder) OnBreaker(backend string) (onState func(backends.BreakerState), shown *overview.Breaker) {
	shown = m.counters.NewBreaker()
	return func(s backends.BreakerState) {
		shown.Note(s)
		m.breakerChanges.WithLabelValues(backend, s.String()).Inc()
	}, shown
}

// SetBreakers has the overview show these breakers, by the names of their backends, and no others.
func (m *Recorder) SetBreakers(all map[string]*overview.Breaker) { m.counters.SetBreakers(all) }

// Refused counts a response that refuses a viewer. Both names are of closed sets.
func (m *Recorder) Refused(route, reason string) { m.refusals.WithLabelValues(route, reason).Inc() }

// Overloaded counts a viewer whom a bound of the node turned away.
func (m *Recorder) Overloaded(setting string) { m.overloads.WithLabelValues(setting).Inc() }
