package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/propagation"

	"usher/actors"
	"usher/backends"
	"usher/backends/callstats"
	"usher/backends/chain"
	"usher/backends/httpbackend"
	"usher/gateway"
	"usher/gateway/admin/overview"
	"usher/gateway/edge"
	"usher/gateway/front/nethttp"
	"usher/gateway/front/plain"
	"usher/gateway/origin"
)

// generation is the part of a node that a reload replaces: what is made of the settings and has no sessions. A request is
// served by one generation from its beginning to its end. What is made of settings that a reload left as they were is in both
// generations.
type generation struct {
	settings *settings
	chains   map[string]*chain.Chain
	adapters map[string]adapter
	stats    map[string]*callstats.Stats   // of the backends that call a middleware
	breakers map[string]*overview.Breaker  // what the overview shows of them
	ends     map[string]context.CancelFunc // of the background work of chains and adapters; set by start
	origins  map[string]*origin.Origin
	gateway  *gateway.Gateway
	handler  http.Handler
	admin    http.Handler
	endPages context.CancelFunc // ends the open pages of admin

	requests   [numLanes]lane // in flight
	isReplaced atomic.Bool
	isIdle     sync.Once
	idle       chan struct{} // is closed once the generation is replaced and serves no request
	ended      ending
	// previous is how far the generation before has.
	previous ending
}

// ending is how far a generation has ended. The channels are closed once its backends have ended, and once all of it has. They are nil
// where there was no generation.
type ending struct{ backends, all chan struct{} }

func newGeneration(s *settings) *generation {
	return &generation{
		settings: s, chains: map[string]*chain.Chain{}, adapters: map[string]adapter{},
		stats: map[string]*callstats.Stats{}, breakers: map[string]*overview.Breaker{}, ends: map[string]context.CancelFunc{},
		origins: map[string]*origin.Origin{}, idle: make(chan struct{}),
		ended: ending{backends: make(chan struct{}), all: make(chan struct{})},
	}
}

// numLanes is how many counters of requests a generation has. One that all processors write to would cost each request more than
// finding its session does.
const numLanes = 32

// lane counts requests. It fills a line of the processor's cache.
type lane struct {
	count atomic.Int64
	_     [56]byte
}

// acquire returns the generation that serves a request which begins now, and counts the request on the lane of a number, which may be any.
// The caller releases the generation with the same number.
func (n *node) acquire(number uint32) *generation {
	for {
		g := n.current.Load()
		g.requests[number%numLanes].count.Add(1)
		if n.current.Load() == g {
			return g
		}
		g.release(number) // a reload was faster
	}
}

func (g *generation) release(number uint32) {
	if g.requests[number%numLanes].count.Add(-1) == 0 && g.isReplaced.Load() && !g.isServing() {
		g.isIdle.Do(func() { close(g.idle) })
	}
}

// isServing reports whether the generation, which is replaced, serves requests. A lane that was once empty since then has none again.
func (g *generation) isServing() bool {
	for i := range g.requests {
		if g.requests[i].count.Load() != 0 {
			return true
		}
	}
	return false
}

// replaced notes that no further request is served.
func (g *generation) replaced() {
	g.requests[0].count.Add(1)
	g.isReplaced.Store(true)
	g.release(0)
}

// serveViewer answers one request.
func (n *node) serveViewer(w http.ResponseWriter, r *http.Request) {
	g := n.acquire(0)
	defer g.release(0)
	g.handler.ServeHTTP(w, r)
}

// Serve answers one request on a listener without TLS.
func (n *node) Serve(x *plain.Exchange) {
	g := n.acquire(x.Number())
	defer g.release(x.Number())
	x.Answer(g.gateway)
}

// Check answers one check of Envoy.
func (n *node) Check(
	ctx context.Context, d edge.Dialect, edgeAddr netip.Addr, q *edge.CheckRequest, a *gateway.Response,
) error {
	g := n.acquire(0)
	defer g.release(0)
	return g.gateway.Check(ctx, d, edgeAddr, q, a)
}

// makeBackends makes the backends, or takes those that have not changed from the previous generation, which may be nil.
func (n *node) makeBackends(g, previous *generation) error {
	var errs []error
	for _, name := range g.settings.backendNames() {
		errs = append(errs, n.makeBackend(g, previous, name))
	}
	return errors.Join(errs...)
}

// makeBackend makes a backend, after its members.
func (n *node) makeBackend(g, previous *generation, name string) error {
	if g.chains[name] != nil {
		return nil
	}
	b := g.settings.Backends[name]
	parts := kindDeps{log: n.logger, http: httpbackend.Deps{
		Log: n.logger, Propagator: propagation.TraceContext{}, ViewerCount: n.viewerCount,
	}}
	if remote, isRemote := b.Settings.common().(remoteSettings); isRemote {
		parts.http.Connections = remote.Chain.Bulkhead.MaxInFlight + remote.Chain.Bulkhead.MaxRechecksInFlight
	}
	var chains []*chain.Chain
	for _, member := range b.members() {
		if err := n.makeBackend(g, previous, member); err != nil {
			return err // reported once, because it says the same each time
		}
		chains = append(chains, g.chains[member])
		parts.members = append(parts.members, g.chains[member].Member(g.settings.Backends[member].rules().Validity))
	}
	if g.keepsBackend(previous, name) {
		g.adapters[name], g.chains[name], g.ends[name] = previous.adapters[name], previous.chains[name], previous.ends[name]
		g.breakers[name] = previous.breakers[name]
		if stats := previous.stats[name]; stats != nil {
			g.stats[name] = stats
		}
		return nil
	}
	if err := n.addBackend(g, name, parts, chains); err != nil || previous == nil {
		return err
	}
	g.adapters[name].takeOver(previous.adapters[name])
	return nil
}

// addBackend makes a backend over its members' chains.
func (n *node) addBackend(g *generation, name string, parts kindDeps, members []*chain.Chain) error {
	b := g.settings.Backends[name]
	a, err := kinds()[b.Settings.kind()].build(name, b.Settings, parts)
	if err != nil {
		return settingError{"backends." + name, fmt.Sprintf("make backend %q: ", name), err}
	}
	g.adapters[name] = a
	if a.alarms != nil {
		g.stats[name] = newCallStats(a.alarms)
	}
	deps := chain.Deps{
		Kind: b.Settings.kind(), DefaultPolicy: a.preset.Policy(), Log: n.logger, Tracer: n.tracer,
		OnCall: n.onCall(name, g.stats[name]), OnState: n.onBreaker(g, name),
	}
	if remote, isRemote := b.Settings.common().(remoteSettings); isRemote {
		g.chains[name] = chain.New(name, remote.Chain, a.Backend, deps)
	} else {
		g.chains[name] = chain.NewLocal(name, b.Settings.common().onFailure(), a.Backend, members, deps)
	}
	return nil
}

// keepsBackend reports whether the previous generation has the backend with the same settings and the same members, so that
// its breaker, its alarms and its connections live on.
func (g *generation) keepsBackend(previous *generation, name string) bool {
	return previous != nil && previous.chains[name] != nil &&
		reflect.DeepEqual(previous.settings.Backends[name], g.settings.Backends[name]) &&
		!slices.ContainsFunc(g.settings.Backends[name].members(), func(member string) bool {
			return previous.chains[member] != g.chains[member]
		})
}

// settingError is an adapter's error with the whole path of its setting, in place of what the adapter says before its key.
type settingError struct {
	section, prefix string
	err             error
}

// Error returns the path and the message.
func (e settingError) Error() string {
	return e.section + "." + strings.TrimPrefix(e.err.Error(), e.prefix)
}

// Unwrap returns the adapter's error.
func (e settingError) Unwrap() error { return e.err }

// makeOrigins makes the origins, or takes those that have not changed from the previous generation, which may be nil.
func (n *node) makeOrigins(g, previous *generation) error {
	addresses, all := map[string][]*url.URL{}, []*url.URL{}
	for name, c := range g.settings.Gateway.Origins {
		urls, err := c.URLs()
		if err != nil {
			return fmt.Errorf("origins.%s: %w", name, err)
		}
		addresses[name] = urls
		all = append(all, urls...)
	}
	for name, urls := range addresses {
		if g.keepsOrigin(previous, name) {
			g.origins[name] = previous.origins[name]
			continue
		}
		o, err := origin.New(name, urls, n.cache, g.settings.origin(), n.logger,
			origin.WithOtherOrigins(all...), origin.WithUpstream(g.settings.Gateway.Origins[name].Upstream))
		if err != nil {
			return err
		}
		g.origins[name] = o
	}
	return nil
}

// keepsOrigin reports whether the previous generation has the origin with the same settings. An origin knows the addresses
// of the others, to which it may redirect.
func (g *generation) keepsOrigin(previous *generation, name string) bool {
	if previous == nil || previous.origins[name] == nil || !reflect.DeepEqual(previous.settings.Fetch, g.settings.Fetch) {
		return false
	}
	before, after := previous.settings.Gateway.Origins, g.settings.Gateway.Origins
	return reflect.DeepEqual(before[name], after[name]) && slices.Equal(originAddresses(before), originAddresses(after))
}

// originAddresses returns the addresses of all origins, sorted.
func originAddresses(all map[string]*gateway.OriginConfig) []string {
	var addresses []string
	for _, c := range all {
		addresses = append(append(addresses, c.URL), c.Fallback...)
	}
	slices.Sort(addresses)
	return addresses
}

// makeGateway makes the gateway over the backends' sessions and the origins. It takes over what the previous generation's has
// learned.
func (n *node) makeGateway(g, previous *generation) (err error) {
	s := g.settings
	o := gateway.Options{
		Config: s.Gateway, Origins: g.origins, Sessions: n.viewers,
		MaxVariants: s.Sessions.MaxVariants, IdleTimeout: s.Sessions.IdleTimeout,
		RetryAfter: s.Sessions.RetryAfter, OnRefusal: n.recorder.Refused, OnOverload: n.recorder.Overloaded, Logger: n.logger,
	}
	if matches := n.cluster.Matches(); matches != nil {
		o.Matches = matches
	}
	if previous != nil {
		o.Previous = previous.gateway
	}
	if g.gateway, err = gateway.New(o); err != nil {
		return err
	}
	g.handler = nethttp.NewHandler(g.gateway)
	return nil
}

// makeAdmin makes the admin listener's handler. It takes the previous generation's if its settings are the same.
func (n *node) makeAdmin(g, previous *generation) {
	if previous != nil && reflect.DeepEqual(previous.settings.Admin, g.settings.Admin) &&
		previous.settings.Sessions.KickDuration == g.settings.Sessions.KickDuration {
		g.admin, g.endPages = previous.admin, previous.endPages
		return
	}
	replaced, end := context.WithCancel(context.Background())
	g.admin, g.endPages = n.newAdminHandler(g.settings, replaced.Done()), end
}

// sessionBackends returns the chains with the policies of their sessions.
func (g *generation) sessionBackends() map[string]actors.BackendOptions {
	all := make(map[string]actors.BackendOptions, len(g.chains))
	for name, b := range g.settings.Backends {
		r := b.rules()
		r.AnswerDeadline = g.settings.answerDeadline(name, len(g.settings.Backends))
		r.ReviveDenied = g.chains[name].FailOpen.Policy() == backends.PolicyDeny
		if ttl := g.settings.tokenTTL(name); ttl > 0 {
			r.TokenLife = ttl
		}
		all[name] = actors.BackendOptions{Backend: g.chains[name], Rules: r}
	}
	return all
}

// start starts the background work of the backends that have none yet.
func (n *node) start(g *generation) {
	for name, c := range g.chains {
		if g.ends[name] != nil {
			continue
		}
		life, end := context.WithCancel(n.life)
		g.ends[name] = end
		n.work.Go(func() error { return c.Run(life) })
		if run := g.adapters[name].run; run != nil {
			n.work.Go(func() error { return run(life) })
		}
	}
}

// closeBeside ends what the generation has and the other one, which goes on, has not. The other one may be nil.
func (g *generation) closeBeside(other *generation) {
	if other == nil {
		other = newGeneration(g.settings)
	}
	g.endServing(other)
	g.endBackends(other)
}

// endServing ends what answers requests: the gateway and the origins.
func (g *generation) endServing(other *generation) {
	if g.gateway != nil {
		g.gateway.CloseBeside(other.gateway)
	}
	for name, o := range g.origins {
		if other.origins[name] != o {
			o.Close()
		}
	}
}

// endBackends ends the backends that the generation has and the other one has not.
func (g *generation) endBackends(other *generation) {
	for name, a := range g.adapters {
		if g.chains[name] != nil && other.chains[name] == g.chains[name] {
			continue
		}
		if end := g.ends[name]; end != nil {
			end()
		}
		a.close()
	}
}
