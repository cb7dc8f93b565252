package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"usher/actors"
	"usher/actors/records"
	"usher/backends"
	"usher/backends/callstats"
	"usher/backends/chain"
	"usher/backends/httpbackend"
	"usher/cluster"
	"usher/cmd/usher/tracing"
	"usher/gateway"
	"usher/gateway/admin"
	"usher/gateway/admin/audit"
	"usher/gateway/admin/breakers"
	"usher/gateway/admin/freerides"
	"usher/gateway/edge/extauthz"
	"usher/gateway/origin"
)

// node is one gateway with everything that it consists of.
type node struct {
	settings  *settings
	logger    *slog.Logger
	chains    map[string]*chain.Chain
	adapters  map[string]adapter
	stats     map[string]*callstats.Stats
	cluster   *cluster.Node
	records   *records.Delivery
	cache     *origin.Cache
	origins   map[string]*origin.Origin
	registry  *actors.Registry
	viewers   *addressWatch // the registry as the gateway sees it
	gateway   *gateway.Gateway
	handler   http.Handler
	server    *gateway.Server
	recorder  *admin.Recorder
	auditFile *audit.File // nil: none
	// freeRides follows what outages cost.
	freeRides *freerides.Tracker
	// droppedSpans are those that were not sent; nil: there is no tracing.
	droppedSpans *tracing.Dropped
	// userAlarms are the alarms of users of backends that call no middleware, by the backend's name.
	userAlarms sync.Map
}

// newNode builds a node. It does not serve yet, but has background work until close.
func newNode(s *settings, logger *slog.Logger, tracer trace.Tracer) (_ *node, err error) {
	n := &node{
		settings: s, logger: logger, recorder: admin.NewRecorder(), auditFile: audit.OpenFile(s.Admin.Audit, s.Retention, logger),
		chains: map[string]*chain.Chain{}, adapters: map[string]adapter{}, stats: map[string]*callstats.Stats{},
		origins: map[string]*origin.Origin{},
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := n.makeBackends(tracer); err != nil {
		return nil, err
	}
	if err := n.openCluster(); err != nil {
		return nil, err
	}
	if err := n.makeOrigins(); err != nil {
		return nil, err
	}
	if err := n.openRecords(); err != nil {
		return nil, err
	}
	n.freeRides = n.newFreeRides()
	n.registry = actors.NewRegistry(n.recordSessions(actors.Options{
		Config: s.Sessions, ReviveFor: s.Gateway.Tickets.ReviveFor,
		Backends: n.sessionBackends(), Cluster: n.cluster,
		StoreTimeout: s.Cluster.RedisTimeout, HeartbeatInterval: s.Cluster.HeartbeatInterval,
		SigningKey: func() string { return n.gateway.SigningKey() }, Observer: observer{n.recorder, n.freeRides}, Tracer: tracer, Logger: logger,
		OnConstantUser: n.onConstantUser,
	}))
	n.viewers = newAddressWatch(n.registry, s.Gateway.TrustedProxies, logger)
	n.gateway, err = gateway.New(gateway.Options{
		Config: s.Gateway, Origins: n.origins, Sessions: n.viewers,
		MaxVariants: s.Sessions.MaxVariants, IdleTimeout: s.Sessions.IdleTimeout,
		RetryAfter: s.Sessions.RetryAfter, OnRefusal: n.recorder.Refused, OnOverload: n.recorder.Overloaded, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	n.beginMetrics()
	n.handler = gateway.NewHandler(n.gateway)
	n.server = gateway.NewServer(s.Gateway, n.handler, n.recorder.Overloaded, logger)
	return n, nil
}

func (n *node) openCluster() (err error) {
	s := n.settings
	n.cluster, err = cluster.Open(cluster.Options{
		Config: s.Cluster, ReviveFor: s.Gateway.Tickets.ReviveFor, Limits: s.Sessions.LimitRules(),
		Version: version(), Address: s.Gateway.Listen,
		Sessions:    func() int { return n.registry.Len() },
		Draining:    func() bool { return !n.server.Ready() },
		OnRedisCall: n.recorder.RedisCalled, OnRevocationReceived: n.recorder.RevocationReceived,
		Logger: n.logger,
	})
	return err
}

func (n *node) makeBackends(tracer trace.Tracer) error {
	var errs []error
	for _, name := range n.settings.backendNames() {
		errs = append(errs, n.makeBackend(name, tracer))
	}
	return errors.Join(errs...)
}

// makeBackend makes a backend, after its members.
func (n *node) makeBackend(name string, tracer trace.Tracer) error {
	if n.chains[name] != nil {
		return nil
	}
	b := n.settings.Backends[name]
	parts := kindDeps{log: n.logger, http: httpbackend.Deps{
		Log: n.logger, Propagator: propagation.TraceContext{}, ViewerCount: n.viewerCount,
	}}
	common := b.Settings.common()
	remote, isRemote := common.(remoteSettings)
	if isRemote {
		parts.http.Connections = remote.Chain.Bulkhead.MaxInFlight + remote.Chain.Bulkhead.MaxRechecksInFlight
	}
	var chains []*chain.Chain
	for _, member := range b.members() {
		if err := n.makeBackend(member, tracer); err != nil {
			return err // reported once, because it says the same each time
		}
		chains = append(chains, n.chains[member])
		parts.members = append(parts.members, backends.Member{
			Name: member, Backend: n.chains[member].WithoutFailOpen(), Validity: n.settings.Backends[member].rules().Validity,
		})
	}
	a, err := kinds()[b.Settings.kind()].build(name, b.Settings, parts)
	if err != nil {
		return settingError{"backends." + name, fmt.Sprintf("make backend %q: ", name), err}
	}
	n.adapters[name] = a
	if a.alarms != nil {
		n.stats[name] = newCallStats(a.alarms)
	}
	deps := chain.Deps{
		Kind: b.Settings.kind(), DefaultPolicy: a.preset.Policy(), Log: n.logger, Tracer: tracer,
		OnCall: n.onCall(name), OnState: n.onBreaker(name),
	}
	if isRemote {
		n.chains[name] = chain.New(name, remote.Chain, a, deps)
	} else {
		n.chains[name] = chain.NewLocal(name, common.onFailure(), a, chains, deps)
	}
	return nil
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

// viewerCount returns how many viewers this node serves: on the channel, and in all.
func (n *node) viewerCount(channel string) (ofChannel, all int) { return n.registry.Viewers(channel) }

func (n *node) makeOrigins() error {
	var err error
	if n.cache, err = origin.NewCache(n.settings.Cache, n.logger); err != nil {
		return err
	}
	addresses, all := map[string][]*url.URL{}, []*url.URL{}
	for name, c := range n.settings.Gateway.Origins {
		urls, err := c.URLs()
		if err != nil {
			return fmt.Errorf("origins.%s: %w", name, err)
		}
		addresses[name] = urls
		all = append(all, urls...)
	}
	for name, urls := range addresses {
		o, err := origin.New(name, urls, n.cache, n.settings.origin(), n.logger,
			origin.WithOtherOrigins(all...), origin.WithUpstream(n.settings.Gateway.Origins[name].Upstream))
		if err != nil {
			return err
		}
		n.origins[name] = o
	}
	return nil
}

// sessionBackends returns the chains with the policies of their sessions.
func (n *node) sessionBackends() map[string]actors.BackendOptions {
	all := make(map[string]actors.BackendOptions, len(n.chains))
	for name, b := range n.settings.Backends {
		r := b.rules()
		r.AnswerDeadline = n.settings.answerDeadline(name, len(n.settings.Backends))
		r.ReviveDenied = n.chains[name].FailOpen.Policy() == backends.PolicyDeny
		if ttl := n.settings.tokenTTL(name); ttl > 0 {
			r.TokenLife = ttl
		}
		all[name] = actors.BackendOptions{Backend: n.chains[name], Rules: r}
	}
	return all
}

// close ends all background work.
func (n *node) close() {
	if n.registry != nil {
		n.registry.Close()
	}
	if n.records != nil {
		n.records.Close()
	}
	if n.gateway != nil {
		n.gateway.Close()
	}
	for _, o := range n.origins {
		o.Close()
	}
	if n.cache != nil {
		n.cache.Close()
	}
	if n.cluster != nil {
		n.cluster.Close()
	}
	for _, a := range n.adapters {
		a.close()
	}
}

// run serves on the listeners until ctx ends, then drains.
func (n *node) run(ctx context.Context, on listeners) error {
	// Backends, cluster and admin listener run until the last viewer has been served.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, life := errgroup.WithContext(life)
	group.Go(func() error {
		n.runCluster(life)
		return nil
	})
	group.Go(func() error {
		n.records.Run(life)
		return nil
	})
	group.Go(func() error {
		n.recorder.Run(life)
		return nil
	})
	group.Go(func() error {
		n.freeRides.Run(life)
		return nil
	})
	for _, c := range n.chains {
		group.Go(func() error { return c.Run(life) })
	}
	for _, a := range n.adapters {
		if a.run != nil {
			group.Go(func() error { return a.run(life) })
		}
	}
	if n.auditFile != nil {
		group.Go(func() error {
			n.auditFile.Run(life)
			return nil
		})
	}
	if on.admin != nil {
		group.Go(func() error { return n.serveAdmin(life, on.admin) })
	}
	group.Go(func() error {
		defer end()
		return n.serveViewers(ctx, life, on)
	})
	return group.Wait()
}

// serveViewers serves viewers and edges until ctx ends and all requests are drained, or life ends because another part
// of the node failed.
func (n *node) serveViewers(ctx, life context.Context, on listeners) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(life, stop)()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.server.Run(ctx, on.public) })
	if on.extAuthz != nil {
		envoy := extauthz.New(n.settings.ExtAuthz, n.settings.Gateway.Drain, n.gateway, n.logger)
		group.Go(func() error { return envoy.Run(ctx, on.extAuthz) })
	}
	return group.Wait()
}

// runCluster applies the events of the cluster to the sessions of this node until ctx ends.
func (n *node) runCluster(ctx context.Context) {
	n.cluster.Run(ctx, cluster.Handlers{
		OnRevocation: n.registry.OnRevocation, RecheckAll: n.registry.RecheckAll, OnRedisRecovered: n.registry.OnRedisRecovered,
		OnStateLost:      n.registry.OnStateLost,
		OnTicketReplaced: n.registry.OnTicketReplaced, OnTicketsMissed: n.registry.OnTicketsMissed,
		OnLimitExceeded: n.registry.OnLimitExceeded, OnForced: n.onForced,
		Answer: func(ctx context.Context, question []byte) []byte {
			if reply := breakers.Answer(ctx, nodeBreakers{n}, question); reply != nil {
				return reply
			}
			if response, isAsked := n.recorder.AnswerOverviewQuery(question); isAsked {
				return response
			}
			if answer, isMine := n.freeRides.Answer(ctx, question); isMine {
				return answer
			}
			return admin.AnswerSessionQuery(ctx, nodeSessions{n.registry}, n.cluster, question)
		},
	})
}
