package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/backends"
)

// maxScrapes is how many scrapes may be under way at once: more scrapers than that are a mistake.
const maxScrapes = 4

// metrics serves the node's series in Prometheus's text format, those of the Go runtime and the process among them.
func metrics(n LocalNode, c Cluster) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newNodeCollector(n, c),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	scrapes := promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		scrapes.ServeHTTP(w, r)
	})
}

// nodeCollector reads a node at the time of the scrape, so that nothing is counted twice, and nothing is kept of a
// backend that a reload removed. Labels are names from the config and closed sets of ours: never a viewer's words.
type nodeCollector struct {
	node    LocalNode
	cluster Cluster

	ready, activeSessions, breaker, violations, violation, nodes, redisUp, activeBans, roundTrips *prometheus.Desc
}

func newNodeCollector(n LocalNode, c Cluster) *nodeCollector {
	return &nodeCollector{
		node: n, cluster: c,
		nodes: prometheus.NewDesc("usher_cluster_nodes",
			"Live nodes, this one included, as far as this one knows.", nil, nil),
		redisUp: prometheus.NewDesc("usher_redis_up",
			"Whether the store that nodes share answers: 1 or 0. A node without Redis is its own store: 1.", nil, nil),
		activeBans: prometheus.NewDesc("usher_active_bans",
			"Bans in force.", nil, nil),
		roundTrips: prometheus.NewDesc("usher_redis_round_trips_total",
			"How often Redis was waited for on behalf of sessions.", nil, nil),
		ready: prometheus.NewDesc("usher_ready",
			"Whether balancers may send viewers here: 1 or 0.", nil, nil),
		activeSessions: prometheus.NewDesc("usher_active_sessions",
			"Sessions on this node.", nil, nil),
		breaker: prometheus.NewDesc("usher_backend_breaker_state",
			"Where the breaker stands: 1 for the state that holds, 0 for the others.", []string{"backend", "state"}, nil),
		violations: prometheus.NewDesc("usher_backend_contract_violations_total",
			"Answers of the backend that violated its contract.", []string{"backend", "violation"}, nil),
		violation: prometheus.NewDesc("usher_backend_contract_violation",
			"Whether the backend violates its contract at present: 1 or 0.", []string{"backend", "violation"}, nil),
	}
}

// Describe sends what there may be.
func (c *nodeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.ready, c.activeSessions, c.breaker, c.violations, c.violation, c.nodes, c.redisUp, c.activeBans, c.roundTrips} {
		out <- d
	}
}

// Collect sends what there is.
func (c *nodeCollector) Collect(out chan<- prometheus.Metric) {
	out <- gauge(c.ready, indicator(c.node.Ready()))
	out <- gauge(c.activeSessions, float64(c.node.Len()))
	out <- gauge(c.nodes, float64(c.cluster.Live()))
	out <- gauge(c.redisUp, indicator(!c.cluster.RedisDown()))
	out <- gauge(c.activeBans, float64(len(c.cluster.Bans())))
	out <- metric(c.roundTrips, prometheus.CounterValue, float64(c.cluster.RoundTrips()))
	for _, b := range c.node.Backends() {
		for _, state := range breakerStates() {
			out <- gauge(c.breaker, indicator(b.Breaker == state), b.Name, state)
		}
		if b.Alarms == nil { // it raises none
			continue
		}
		for _, known := range backends.AllAlarms() {
			name := known.String()
			a := b.Alarms[name]
			out <- metric(c.violations, prometheus.CounterValue, float64(a.Count), b.Name, name)
			out <- gauge(c.violation, indicator(a.Active), b.Name, name)
		}
	}
}

func breakerStates() []string {
	return []string{
		backends.BreakerClosed.String(), backends.BreakerHalfOpen.String(), backends.BreakerOpen.String(),
	}
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return metric(d, prometheus.GaugeValue, value, labels...)
}

// metric is one series; a name that cannot be a label fails the scrape, which somebody sees, and not the node.
func metric(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) prometheus.Metric {
	m, err := prometheus.NewConstMetric(d, kind, value, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}

func indicator(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
