// Package bounds lists what keeps a node from growing: the bounds of its queues, caches and tables, each with the metric that shows
// when it is reached. A test holds the list against the settings, the constants and the metrics of the program, so that a new bound
// without a metric fails.
package bounds

// The metrics that several bounds share.
const (
	overloads = "usher_overloads_total"
	reached   = "usher_bound_reached_total"
)

// Bound is one bound of what could grow.
type Bound struct {
	// Setting is its path in the settings, where a * stands for a name. Constant is the name in the code, behind its folder. One of
	// them is set.
	Setting, Constant string
	// Metric shows that the bound is reached. Label is the value of the metric's label, unless that is the setting.
	Metric, Label string
}

// All returns all bounds.
func All() []Bound {
	all := []Bound{
		{Setting: "backends.*.max_rechecks_in_flight", Metric: "usher_backend_calls_limit"},
		{Setting: "backends.*.recheck_rate", Metric: "usher_backend_rechecks_waiting"},
		{Setting: "cluster.memory.max_sessions", Metric: "usher_active_sessions"},
		{Setting: "cluster.redis.pool_size", Metric: "usher_redis_call_duration_seconds"},
		{Setting: "cache.max_size", Metric: "usher_cache_evictions_total"},
		{Setting: "records.spool.max_size", Metric: "usher_records_dropped_total"},

		{Constant: "actors.maxRenewals", Metric: reached, Label: "stream_renewals"},
		{Constant: "actors.maxRenewals", Metric: reached, Label: "address_renewals"},
		{Constant: "actors.maxStoredDenials", Metric: reached, Label: "stored_denials"},
		{Constant: "actors.maxNewAddresses", Metric: overloads, Label: "new addresses of a ticket per minute"},
		{Constant: "actors/admission.cells", Metric: overloads, Label: "sessions.open_rate_per_network"},
		{Constant: "actors/admission.setSize", Metric: reached, Label: "known_viewers"},
		{Constant: "actors/records.maxOpened", Metric: "usher_records_dropped_total"},
		{Constant: "backends/any.maxAbandonedCalls", Metric: overloads, Label: "backends.*.backends: unfinished calls to *"},
		{Constant: "cluster.maxDeferred", Metric: reached, Label: "deferred_writes"},
		{Constant: "cluster/events.maxBannedSessions", Metric: reached, Label: "ban_tombstones"},
		{Constant: "cluster/events.maxBans", Metric: "usher_active_bans"},
		{Constant: "cluster/events.maxGroupedViewers", Metric: "usher_active_bans"},
		{Constant: "cluster/events.maxQueued", Metric: reached, Label: "queued_revocations"},
		{Constant: "cluster/known.maxPending", Metric: reached, Label: "known_viewers_unshared"},
		{Constant: "cluster/matches.maxPending", Metric: reached, Label: "edge_matches_unshared"},
		{Constant: "cluster/redisclient.queueSize", Metric: "usher_redis_call_duration_seconds"},
		{Constant: "cmd/usher/tracing.maxOpenTraces", Metric: "usher_trace_spans_dropped_total"},
		{Constant: "cmd/usher/tracing.maxQueued", Metric: "usher_trace_spans_dropped_total"},
		{Constant: "gateway.maxEntries", Metric: reached, Label: "route_warnings"},
		{Constant: "gateway.maxWarned", Metric: reached, Label: "route_warnings"},
		{Constant: "gateway/front.maxResets", Metric: overloads, Label: "HTTP/2 stream resets of a connection"},
		{Constant: "gateway/listener.maxPrivate", Metric: overloads, Label: "connections of admin.listen"},
		{Constant: "gateway/listener.maxPrivate", Metric: overloads, Label: "connections of ext_authz.listen"},
		{Constant: "gateway.maxPlaybackOwners", Metric: reached, Label: "playback_ids"},
		{Constant: "gateway/edge.maxFingerprints", Metric: reached, Label: "edge_fingerprints"},
		{Constant: "gateway/edge.maxLookUps", Metric: overloads, Label: "unknown viewers at edges"},
		{Constant: "gateway/edge.maxLookUpsOfAddress", Metric: overloads, Label: "unknown viewers of an address at edges"},
		{Constant: "gateway/edge/extauthz.maxAwaited", Metric: overloads, Label: "streams of ext_authz.listen"},
		{Constant: "gateway/enforcement.maxRecorded", Metric: reached, Label: "unenforced_refusals"},
		{Constant: "gateway/variants.maxGroups", Metric: reached, Label: "variants"},
		{Constant: "gateway/variants.maxCleared", Metric: reached, Label: "variants"},
	}
	for _, setting := range Overloads() {
		all = append(all, Bound{Setting: setting, Metric: overloads})
	}
	return all
}

// Overloads returns the settings whose bounds turn viewers or their connections away, where a * stands for a backend that calls a
// middleware.
func Overloads() []string {
	return []string{
		"limits.max_connections", "limits.max_connections_per_address", "limits.max_concurrent_requests", "limits.memory_high_water_percent",
		"fetch.max_waiting", "fetch.max_conns",
		"sessions.max", "sessions.max_pending", "sessions.open_rate_per_address", "sessions.open_rate_per_network", "sessions.open_rate",
		"sessions.denied_rate_per_network", "sessions.denied_rate", "sessions.stranger_share_percent",
		"sessions.max_addresses", "sessions.max_variants",
		"backends.*.max_in_flight", "backends.*.max_waiting", "backends.*.stranger_share_percent",
	}
}
