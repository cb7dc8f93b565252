package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/actors"
	"usher/backends"
	"usher/backends/httpbackend"
	"usher/cmd/usher/bounds"
	"usher/cmd/usher/config"
	"usher/gateway/admin"
	"usher/gateway/listener"
)

// serveAdmin serves the admin listener until ctx ends: after the public one has drained, so that load balancers see
// the readiness.
func (n *node) serveAdmin(ctx context.Context, inner net.Listener) error {
	bounded := listener.NewPrivate(inner, "connections of admin.listen", n.recorder.Overloaded, n.logger)
	server := &http.Server{
		Handler: n.adminHandler(), ConnState: bounded.ConnState,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 75 * time.Second,
		ErrorLog: slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(bounded); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin.listen=%s: %w", inner.Addr(), err)
	}
	return nil
}

// adminHandler returns the handler of the admin listener, which follows the settings.
func (n *node) adminHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 { // the whole request is read; the deadline would end the event stream of an open page
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a writer without deadlines has none to take away
		}
		n.current.Load().admin.ServeHTTP(w, r)
	})
}

// newAdminHandler returns the handler of the admin listener for these settings. Its open pages end when replaced is closed.
func (n *node) newAdminHandler(s *settings, replaced <-chan struct{}) http.Handler {
	o := admin.Options{
		Sessions: n.registry, Cluster: n.cluster, Recorder: n.recorder, Ready: func() bool { return n.server.Ready() }, Warnings: n.warnings,
		Backends: n.backends, Breakers: nodeBreakers{n}, Routes: n.routes, Origins: n.originStates, FreeRides: n.freeRides, Cache: n.cacheState,
		DroppedSpans: func() map[string]uint64 { return n.droppedSpans.ByReason() }, KickDuration: s.Sessions.KickDuration, Logger: n.logger,
		Records: n.recordStats, Overload: n.overloadStats, Replaced: replaced,
		Settings: func(w io.Writer) error { return config.Print(w, n.current.Load().settings) },
		Reload:   func() admin.ReloadResult { return n.reload("api") },
	}
	if n.cluster.Shared() {
		o.StoreCalls = n.registry.StoreCalls
	}
	if n.auditFile != nil {
		o.AuditStream = n.auditFile
	}
	return admin.Handler(s.Admin, o)
}

// nodeSessions are the sessions of this node as the API needs them.
type nodeSessions struct{ *actors.Registry }

// Checks returns what has decided on the session on this node.
func (n nodeSessions) Checks(id backends.SessionID) (checks []admin.Check, found bool) {
	entries, found := n.Timeline(id)
	for _, e := range entries {
		c := admin.Check{
			Time: e.Time, Trigger: e.Trigger.String(), Backend: e.Backend, DurationMS: float64(e.Duration.Microseconds()) / 1000,
			Verdict: e.Verdict.String(), Source: e.Source.String(), Reason: e.Reason, Error: e.Error, Omitted: e.Omitted,
		}
		if e.Count > 1 {
			c.Count, c.Since = e.Count, e.Since
		}
		checks = append(checks, c)
	}
	return checks, found
}

// beginMetrics begins at zero the series whose names are known, and has the overview show the breakers of the generation.
func (n *node) beginMetrics(g *generation) {
	for i, name := range g.gateway.Routes() {
		n.recorder.AddRoute(name, g.settings.Gateway.Routes[i].Backend)
	}
	for name, c := range g.chains {
		all := append(slices.Clip(g.adapters[name].overloads), "backends."+name+".answer_deadline")
		for _, setting := range bounds.Overloads() {
			if of, isBackends := strings.CutPrefix(setting, "backends.*"); isBackends && c.Bulkhead != nil {
				all = append(all, "backends."+name+of)
			}
		}
		n.recorder.AddBackend(name, all...)
	}
	for _, setting := range nodeBounds() {
		n.recorder.AddBound(setting)
	}
	n.recorder.SetBreakers(g.breakers)
}

// forgetMetrics removes the series of routes and backends that the settings no longer have, once no session and no request of earlier
// settings counts into them.
func (n *node) forgetMetrics() {
	n.reloads.mu.Lock() // or it removed series that a reload has begun
	defer n.reloads.mu.Unlock()
	g := n.current.Load()
	if g.previous.all != nil {
		select {
		case <-g.previous.all:
		default:
			return
		}
	}
	routes, inUse := g.gateway.Routes(), sync.OnceValues(n.registry.InUse)
	n.recorder.Forget(func(route string) bool {
		if slices.Contains(routes, route) {
			return true
		}
		used, _ := inUse()
		return used[route]
	}, func(backend string) bool {
		if g.chains[backend] != nil {
			return true
		}
		_, used := inUse()
		return used[backend]
	})
}

// nodeBounds returns the settings that bound a node, and what else turns viewers away wherever they come.
func nodeBounds() []string {
	isOfBackend := func(setting string) bool { return strings.HasPrefix(setting, "backends.") }
	return append(slices.DeleteFunc(bounds.Overloads(), isOfBackend), "new addresses of a ticket per minute",
		"HTTP/2 stream resets of a connection", "connections of admin.listen", "connections of ext_authz.listen", "streams of ext_authz.listen",
		"unknown viewers at edges", "unknown viewers of an address at edges")
}

// backends returns all backends as the API shows them.
func (n *node) backends() []admin.Backend {
	var all []admin.Backend
	g := n.current.Load()
	for name, c := range g.chains {
		b := admin.Backend{
			Name: name, Kind: g.settings.Backends[name].Settings.kind(), Address: g.adapters[name].url,
			Breaker: c.State().String(), OnFailure: c.FailOpen.Policy().String(), ContractViolations: violationsView(g.adapters[name].alarms),
			RechecksWaiting: n.registry.RechecksWaiting(name), Forced: admin.NewForced(c.Forced()),
		}
		if c.Bulkhead != nil {
			b.ChecksInFlight, b.RechecksInFlight = c.Bulkhead.InFlight()
			b.ChecksLimit, b.RechecksLimit = c.Bulkhead.Limits()
			addStats(&b, g.stats[name].Snapshot(time.Now()))
		}
		all = append(all, b)
	}
	return all
}

// originStates returns all origins as the API shows them.
func (n *node) originStates() []admin.Origin {
	var all []admin.Origin
	origins := n.current.Load().origins
	for _, name := range slices.Sorted(maps.Keys(origins)) {
		s := origins[name].Stats()
		o := admin.Origin{Name: name, Counters: admin.OriginCounters{
			Hits: s.Hits, Fetches: s.Fetches, Coalesced: s.Coalesced, Revalidated: s.Revalidated, Stale: s.Stale, Failovers: s.Failovers, Bytes: s.Bytes,
		}}
		for _, at := range origins[name].Addresses() {
			o.Addresses = append(o.Addresses, admin.OriginAddress{URL: at.URL, Ejected: at.IsEjected})
		}
		for _, f := range origins[name].Failures() {
			o.Failures = append(o.Failures, admin.OriginFailure{
				Reason: string(f.Reason), Channel: f.Channel, URL: f.URL, Status: f.Status, Error: f.Error, Advice: f.Advice,
				Time: f.Time, Count: f.Count,
			})
		}
		all = append(all, o)
	}
	return all
}

// cacheState returns the state of the origins' memory.
func (n *node) cacheState() admin.CacheState {
	s := n.cache.Stats()
	return admin.CacheState{
		Entries: s.Entries, StoredBytes: s.Stored, InFlightBytes: s.InFlight, Max: int64(n.current.Load().settings.Cache.MaxSize),
		Evictions: s.Evictions,
	}
}

// routes returns all routes as the API shows them.
func (n *node) routes() []admin.Route {
	g := n.current.Load().gateway
	refusals, tooLong := g.UnenforcedRefusals(), g.TooLongURIs()
	var all []admin.Route
	for _, name := range g.Routes() {
		r := admin.Route{Name: name, Enforce: refusals[name] == nil, TooLongURIs: tooLong[name]}
		for reason, count := range refusals[name] {
			if r.UnenforcedRefusals == nil {
				r.UnenforcedRefusals = map[string]uint64{}
			}
			r.UnenforcedRefusals[string(reason)] = count
		}
		all = append(all, r)
	}
	return all
}

// onConstantUser raises the alarm of a user whose viewers are at too many addresses. A backend that calls no middleware is
// logged alone.
func (n *node) onConstantUser(backend, user string, addresses int) {
	alarms := n.current.Load().adapters[backend].alarms
	if alarms == nil {
		own, _ := n.userAlarms.LoadOrStore(backend, httpbackend.NewAlarms(backend, n.logger))
		alarms, _ = own.(*httpbackend.Alarms)
	}
	alarms.Raise(time.Now(), backends.AlarmConstantUser,
		fmt.Sprintf("the viewers of user %q are at more than %d addresses at once", user, addresses))
}

// violationsView returns the state of every contract violation; nil for a backend that calls no middleware.
func violationsView(w *httpbackend.Alarms) map[string]admin.AlarmState {
	if w == nil {
		return nil
	}
	all := map[string]admin.AlarmState{}
	for _, alarm := range backends.AllAlarms() {
		all[alarm.String()] = admin.AlarmState{Count: w.Count(alarm), Active: w.Active().Has(alarm), Detail: w.Detail(alarm)}
	}
	return all
}
