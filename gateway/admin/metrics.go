package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/backends"
	"usher/gateway/admin/overloadstats"
	"usher/gateway/admin/recordstats"
)

// maxScrapes bounds concurrent scrapes.
const maxScrapes = 4

// metrics serves the node's metrics in the Prometheus text format, with those of the Go runtime and the process.
func metrics(o Options) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newNodeCollector(o),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if o.Records != nil {
		registry.MustRegister(recordstats.New(o.Records))
	}
	if o.Overload != nil {
		registry.MustRegister(overloadstats.New(o.Overload))
	}
	if o.Recorder != nil {
		registry.MustRegister(o.Recorder.collectors()...)
	}
	if o.Cache != nil {
		registry.MustRegister(newCacheCollector(o.Cache))
	}
	scrapes := promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		scrapes.ServeHTTP(w, r)
	})
}

// nodeCollector reads a node at the time of the scrape. It counts nothing twice and keeps no series of a backend that a
// reload removed. Labels are names from the config and closed sets, never text of a viewer.
type nodeCollector struct {
	Options

	ready, activeSessions, breakerState, violations, violation, nodes, redisUp, activeBans, roundTrips,
	unenforced, tooLong, originFailures, originFetches, originBytes, inFlight, limit, waiting, storeCalls, droppedSpans, forced *prometheus.Desc
}

func newNodeCollector(o Options) *nodeCollector {
	return &nodeCollector{
		Options: o,
		nodes: prometheus.NewDesc("usher_cluster_nodes",
			"Live nodes, this one included, as far as this one knows.", nil, nil),
		redisUp: prometheus.NewDesc("usher_redis_up",
			"1 while Redis is available, else 0. Always 1 without Redis.", nil, nil),
		tooLong: prometheus.NewDesc("usher_playlist_uris_too_long_total",
			"URIs of playlists that were not written because of tickets.max_uri.", []string{"route"}, nil),
		unenforced: prometheus.NewDesc("usher_unenforced_refusals_total",
			"Sessions that a route with enforce: false would have refused.", []string{"route", "reason"}, nil),
		originFailures: prometheus.NewDesc("usher_origin_failures_total",
			"Requests of viewers that the origin failed.", []string{"origin", "reason"}, nil),
		originFetches: prometheus.NewDesc("usher_origin_fetches_total",
			"Requests to the origin, and responses without one of their own: hit, fetched, coalesced, revalidated, stale, failover.",
			[]string{"origin", "kind"}, nil),
		originBytes: prometheus.NewDesc("usher_origin_bytes_total",
			"Bytes of the origin's bodies.", []string{"origin"}, nil),
		droppedSpans: prometheus.NewDesc("usher_trace_spans_dropped_total",
			"Spans of traces that could not be sent, by reason.", []string{"reason"}, nil),
		inFlight: prometheus.NewDesc("usher_backend_calls_in_flight",
			"Calls of the backend without an answer yet.", []string{"backend", "check"}, nil),
		limit: prometheus.NewDesc("usher_backend_calls_limit",
			"Calls of the backend that may be in flight now.", []string{"backend", "check"}, nil),
		waiting: prometheus.NewDesc("usher_backend_rechecks_waiting",
			"Sessions that wait for a slot of recheck_rate.", []string{"backend"}, nil),
		storeCalls: prometheus.NewDesc("usher_redis_calls_in_flight",
			"Look-ups and writes of sessions in Redis without an answer yet.", []string{"call"}, nil),
		activeBans: prometheus.NewDesc("usher_active_bans",
			"Active bans.", nil, nil),
		roundTrips: prometheus.NewDesc("usher_redis_round_trips_total",
			"Waits for Redis on behalf of sessions.", nil, nil),
		ready: prometheus.NewDesc("usher_ready",
			"1 while load balancers may send viewers to this node, else 0.", nil, nil),
		activeSessions: prometheus.NewDesc("usher_active_sessions",
			"Sessions on this node.", nil, nil),
		breakerState: prometheus.NewDesc("usher_backend_breaker_state",
			"State of the breaker: 1 for the current state, 0 for the others.", []string{"backend", "state"}, nil),
		forced: prometheus.NewDesc("usher_backend_forced",
			"1 while an operator forces the breaker to be in this state, else 0.", []string{"backend", "state"}, nil),
		violations: prometheus.NewDesc("usher_backend_contract_violations_total",
			"Responses of the backend that violated its contract.", []string{"backend", "violation"}, nil),
		violation: prometheus.NewDesc("usher_backend_contract_violation",
			"1 while the backend violates its contract, else 0.", []string{"backend", "violation"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.ready, c.activeSessions, c.breakerState, c.violations, c.violation, c.nodes, c.redisUp, c.activeBans, c.roundTrips, c.unenforced, c.tooLong, c.originFailures,
		c.originFetches, c.originBytes, c.inFlight, c.limit, c.waiting, c.storeCalls, c.droppedSpans, c.forced,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(out chan<- prometheus.Metric) {
	out <- gauge(c.ready, boolValue(c.Ready()))
	out <- gauge(c.activeSessions, float64(c.Sessions.Len()))
	out <- gauge(c.nodes, float64(c.Cluster.Live()))
	out <- gauge(c.redisUp, boolValue(!c.Cluster.RedisDown()))
	out <- gauge(c.activeBans, float64(countBans(c.Cluster.Bans())))
	out <- metric(c.roundTrips, prometheus.CounterValue, float64(c.Cluster.RoundTrips()))
	if c.StoreCalls != nil {
		for call, n := range c.StoreCalls() {
			out <- gauge(c.storeCalls, float64(n), call)
		}
	}
	if c.DroppedSpans != nil {
		for reason, n := range c.DroppedSpans() {
			out <- metric(c.droppedSpans, prometheus.CounterValue, float64(n), reason)
		}
	}
	c.collectRoutes(out)
	c.collectOrigins(out)
	for _, b := range c.Backends() {
		out <- gauge(c.inFlight, float64(b.ChecksInFlight), b.Name, "opening")
		out <- gauge(c.inFlight, float64(b.RechecksInFlight), b.Name, "recheck")
		if b.ChecksLimit > 0 { // else its calls have no bound
			out <- gauge(c.limit, float64(b.ChecksLimit), b.Name, "opening")
			out <- gauge(c.limit, float64(b.RechecksLimit), b.Name, "recheck")
		}
		out <- gauge(c.waiting, float64(b.RechecksWaiting), b.Name)
		for _, state := range breakerStates() {
			out <- gauge(c.breakerState, boolValue(b.Breaker == state), b.Name, state)
		}
		for _, state := range forcedStates() {
			out <- gauge(c.forced, boolValue(b.Forced != nil && b.Forced.State == state), b.Name, state)
		}
		if b.ContractViolations == nil { // the backend has no alarms
			continue
		}
		for _, known := range backends.AllAlarms() {
			name := known.String()
			a := b.ContractViolations[name]
			out <- metric(c.violations, prometheus.CounterValue, float64(a.Count), b.Name, name)
			out <- gauge(c.violation, boolValue(a.Active), b.Name, name)
		}
	}
}

// collectRoutes writes the counters of routes. What a route would have refused is a series for each reason.
func (c *nodeCollector) collectRoutes(out chan<- prometheus.Metric) {
	if c.Routes == nil {
		return
	}
	for _, r := range c.Routes() {
		out <- metric(c.tooLong, prometheus.CounterValue, float64(r.TooLongURIs), r.Name)
		for reason, n := range r.UnenforcedRefusals {
			out <- metric(c.unenforced, prometheus.CounterValue, float64(n), r.Name, reason)
		}
	}
}

// collectOrigins writes a series for each origin and each reason for which it failed a viewer.
func (c *nodeCollector) collectOrigins(out chan<- prometheus.Metric) {
	if c.Origins == nil {
		return
	}
	for _, o := range c.Origins() {
		for _, f := range o.Failures {
			out <- metric(c.originFailures, prometheus.CounterValue, float64(f.Count), o.Name, f.Reason)
		}
		out <- metric(c.originBytes, prometheus.CounterValue, float64(o.Counters.Bytes), o.Name)
		for kind, n := range map[string]uint64{
			"hit": o.Counters.Hits, "fetched": o.Counters.Fetches, "coalesced": o.Counters.Coalesced, "revalidated": o.Counters.Revalidated,
			"stale": o.Counters.Stale, "failover": o.Counters.Failovers,
		} {
			out <- metric(c.originFetches, prometheus.CounterValue, float64(n), o.Name, kind)
		}
	}
}

// cacheCollector reads the state of the memory that all origins share.
type cacheCollector struct {
	state func() CacheState

	bytes, maxBytes, entries, evictions *prometheus.Desc
}

func newCacheCollector(state func() CacheState) *cacheCollector {
	return &cacheCollector{
		state: state,
		bytes: prometheus.NewDesc("usher_cache_bytes",
			"Memory of origins' responses: stored, or in_flight while they are fetched.", []string{"state"}, nil),
		maxBytes: prometheus.NewDesc("usher_cache_max_bytes",
			"The setting cache.max_size.", nil, nil),
		entries: prometheus.NewDesc("usher_cache_entries",
			"Stored responses.", nil, nil),
		evictions: prometheus.NewDesc("usher_cache_evictions_total",
			"Stored responses that made room for others before they had expired.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *cacheCollector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c *cacheCollector) Collect(out chan<- prometheus.Metric) {
	s := c.state()
	out <- gauge(c.bytes, float64(s.StoredBytes), "stored")
	out <- gauge(c.bytes, float64(s.InFlightBytes), "in_flight")
	out <- gauge(c.maxBytes, float64(s.Max))
	out <- gauge(c.entries, float64(s.Entries))
	out <- metric(c.evictions, prometheus.CounterValue, float64(s.Evictions))
}

func breakerStates() []string {
	return []string{
		backends.BreakerClosed.String(), backends.BreakerHalfOpen.String(), backends.BreakerOpen.String(),
	}
}

// forcedStates returns the states that an operator can force.
func forcedStates() []string {
	return []string{backends.BreakerClosed.String(), backends.BreakerOpen.String()}
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return metric(d, prometheus.GaugeValue, value, labels...)
}

// metric returns one sample. An invalid label fails the scrape, which is visible, and not the node.
func metric(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) prometheus.Metric {
	m, err := prometheus.NewConstMetric(d, kind, value, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}

func boolValue(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
