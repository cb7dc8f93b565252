package main

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"usher/actors"
	"usher/actors/records"
	"usher/cluster"
	"usher/cmd/usher/gcpace"
	"usher/cmd/usher/systemd"
	"usher/cmd/usher/tracing"
	"usher/gateway/admin"
	"usher/gateway/admin/audit"
	"usher/gateway/admin/breakers"
	"usher/gateway/admin/freerides"
	"usher/gateway/edge/extauthz"
	"usher/gateway/front"
	"usher/gateway/memory"
	"usher/gateway/origin"
)

// node is one gateway with everything that it consists of. What is here lives as long as the node; the rest is in its
// generations.
type node struct {
	logger    *slog.Logger
	notifier  *systemd.Notifier // nil: nobody is told
	logLevel  *slog.LevelVar    // nil: not to be changed
	tracer    trace.Tracer
	cluster   *cluster.Node
	records   *records.Delivery
	cache     *origin.Cache
	registry  *actors.Registry
	viewers   *addressWatch // the registry as the gateway sees it
	handler   http.Handler  // of viewers
	server    *front.Server
	recorder  *admin.Recorder
	auditFile *audit.File // nil: none
	// freeRides follows what outages cost.
	freeRides *freerides.Tracker
	// droppedSpans are those that were not sent; nil: there is no tracing.
	droppedSpans *tracing.Dropped
	// memory says when memory is too short for new sessions.
	memory *memory.Monitor
	// userAlarms are the alarms of users of backends that call no middleware, by the backend's name.
	userAlarms sync.Map

	current atomic.Pointer[generation]
	reloads reloads
	// life and work are of the background work, which run waits for. They are nil before.
	life context.Context //nolint:containedctx // a reload starts work that lives as long as the node
	work *errgroup.Group
}

// newNode builds a node. It does not serve yet, but has background work until close.
func newNode(s *settings, logger *slog.Logger, tracer trace.Tracer) (_ *node, err error) {
	n := &node{
		logger: logger, tracer: tracer, recorder: admin.NewRecorder(), memory: memory.NewMonitor(s.Gateway.Limits.Memory, memory.Read, logger),
		auditFile: audit.OpenFile(s.Admin.Audit, s.Retention, logger),
	}
	g := newGeneration(s)
	n.current.Store(g)
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := n.makeBackends(g, nil); err != nil {
		return nil, err
	}
	if err := n.openCluster(); err != nil {
		return nil, err
	}
	if n.cache, err = origin.NewCache(s.Cache, logger); err != nil {
		return nil, err
	}
	if err := n.makeOrigins(g, nil); err != nil {
		return nil, err
	}
	if err := n.openRecords(); err != nil {
		return nil, err
	}
	n.freeRides = n.newFreeRides()
	n.registry = actors.NewRegistry(n.recordSessions(actors.Options{
		Config: s.Sessions, ReviveFor: s.Gateway.Tickets.ReviveFor,
		Backends: g.sessionBackends(), Cluster: n.cluster,
		StoreTimeout: s.Cluster.RedisTimeout, HeartbeatInterval: s.Cluster.HeartbeatInterval,
		SigningKey: func() string { return n.current.Load().gateway.SigningKey() }, Observer: observer{n.recorder, n.freeRides}, Tracer: tracer, Logger: logger,
		OnConstantUser: n.onConstantUser, Shed: n.memory.Shed,
	}))
	n.viewers = newAddressWatch(n.registry, s.Gateway.TrustedProxies, logger)
	if err := n.makeGateway(g, nil); err != nil {
		return nil, err
	}
	n.beginMetrics(g)
	n.handler = http.HandlerFunc(n.serveViewer)
	n.server = front.NewServer(s.Gateway, front.Handlers{HTTP: n.handler, Plain: n}, n.recorder.Overloaded, logger)
	n.makeAdmin(g, nil)
	return n, nil
}

func (n *node) openCluster() (err error) {
	s := n.current.Load().settings
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

// viewerCount returns how many viewers this node serves: on the channel, and in all.
func (n *node) viewerCount(channel string) (ofChannel, all int) { return n.registry.Viewers(channel) }

// close ends all background work.
func (n *node) close() {
	if n.registry != nil {
		n.registry.Close()
	}
	if n.records != nil {
		n.records.Close()
	}
	n.current.Load().closeBeside(nil)
	if n.cache != nil {
		n.cache.Close()
	}
	if n.cluster != nil {
		n.cluster.Close()
	}
}

// run serves on the listeners until ctx ends, then drains.
func (n *node) run(ctx context.Context, on listeners) error {
	// Backends, cluster and admin listener run until the last viewer has been served.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, life := errgroup.WithContext(life)
	n.life, n.work = life, group
	n.handleEvents() // before a viewer or an operator can cause one
	for _, run := range []func(context.Context){n.cluster.Run, n.records.Run, n.recorder.Run, n.freeRides.Run, n.memory.Run, gcpace.Run} {
		group.Go(func() error {
			run(life)
			return nil
		})
	}
	n.start(n.current.Load()) //nolint:contextcheck // the work lives as long as the node
	group.Go(func() error {
		n.runReloads(ctx)
		return nil
	})
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
		s := n.current.Load().settings
		envoy := extauthz.New(s.ExtAuthz, s.Gateway.Drain, n, n.recorder.Overloaded, n.logger)
		group.Go(func() error { return envoy.Run(ctx, on.extAuthz) })
	}
	return group.Wait()
}

// handleEvents has the events of the cluster applied to the sessions of this node.
func (n *node) handleEvents() {
	n.cluster.Handle(cluster.Handlers{
		OnRevocation: n.registry.OnRevocation, RecheckAll: n.registry.RecheckAll, OnRedisRecovered: n.registry.OnRedisRecovered,
		OnStateLost:      n.registry.OnStateLost,
		OnTicketReplaced: n.registry.OnTicketReplaced, OnTicketsMissed: n.registry.OnTicketsMissed,
		OnLimitExceeded: n.registry.OnLimitExceeded, OnForced: n.onForced, OnKnown: n.registry.OnKnown,
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
