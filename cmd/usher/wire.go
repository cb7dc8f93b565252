package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"usher/actors"
	"usher/backends"
	"usher/cluster"
	"usher/gateway"
	"usher/gateway/admin"
	"usher/gateway/extauthz"
	"usher/gateway/origin"
)

// node is one gateway with all its parts.
type node struct {
	settings *settings
	logger   *slog.Logger
	chains   map[string]*backends.Chain
	adapters map[string]adapter
	memory   *cluster.Memory
	cache    *origin.Cache
	origins  map[string]*origin.Origin
	registry *actors.Registry
	gateway  *gateway.Gateway
	handler  http.Handler
	server   *gateway.Server
}

// newNode wires a node. Nothing of it answers yet, but its sessions' timers run until close.
func newNode(s *settings, logger *slog.Logger, tracer trace.Tracer) (_ *node, err error) {
	n := &node{
		settings: s, logger: logger,
		chains: map[string]*backends.Chain{}, adapters: map[string]adapter{}, origins: map[string]*origin.Origin{},
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := n.makeBackends(tracer); err != nil {
		return nil, err
	}
	if n.memory, err = cluster.NewMemory(s.Memory, s.Gateway.Tickets.ReviveFor); err != nil {
		return nil, err
	}
	if err := n.makeOrigins(); err != nil {
		return nil, err
	}
	n.gateway, err = gateway.New(gateway.Options{
		Config: s.Gateway, Origins: n.origins, Sessions: (*gatewaySessions)(n),
		MaxAddresses: s.Sessions.MaxAddresses, RetryAfter: s.Sessions.RetryAfter, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	n.registry = actors.NewRegistry(actors.Options{
		Config: s.Sessions, ReviveFor: s.Gateway.Tickets.ReviveFor,
		Backends: n.guarded(), Rules: n.rules(), Store: n.memory,
		SigningKey: n.gateway.SigningKey, Tracer: tracer, Logger: logger,
	})
	n.handler = gateway.NewHandler(n.gateway)
	n.server = gateway.NewServer(s.Gateway, n.handler, logger)
	return n, nil
}

func (n *node) makeBackends(tracer trace.Tracer) error {
	for _, name := range slices.Sorted(maps.Keys(n.settings.Backends)) {
		if err := n.makeBackend(name, tracer); err != nil {
			return err
		}
	}
	return nil
}

// makeBackend makes a backend, those that it joins before it.
func (n *node) makeBackend(name string, tracer trace.Tracer) error {
	if n.chains[name] != nil {
		return nil
	}
	b := n.settings.Backends[name]
	parts := kindParts{log: n.logger, http: backends.HTTPParts{
		Log: n.logger, Propagator: propagation.TraceContext{}, Audience: n.audience,
	}}
	if s, ok := b.Around.(*askedSettings); ok {
		parts.http.Connections = s.Chain.Bulkhead.MaxInFlight + s.Chain.Bulkhead.RecheckInFlight
	}
	var chains []*backends.Chain
	for _, member := range b.members() {
		if err := n.makeBackend(member, tracer); err != nil {
			return err
		}
		chains = append(chains, n.chains[member])
		parts.members = append(parts.members, backends.Member{
			Name: member, Backend: n.chains[member].Asking(), Validity: n.settings.Backends[member].Around.rules().Validity,
		})
	}
	a, err := kinds()[b.Kind].build(name, b.Adapter, parts)
	if err != nil {
		return err
	}
	n.adapters[name] = a
	n.chains[name] = b.Around.chain(name, a, chains, backends.ChainParts{
		Kind: b.Kind, Preset: a.preset, Log: n.logger, Tracer: tracer,
	})
	return nil
}

// audience counts the viewers who are watching here: those of a channel, and all.
func (n *node) audience(channel string) (ofChannel, all int) { return n.registry.Audience(channel) }

func (n *node) makeOrigins() error {
	var err error
	if n.cache, err = origin.NewCache(n.settings.Cache, n.logger); err != nil {
		return err
	}
	addresses, hosts := map[string][]*url.URL{}, []string{}
	for name, c := range n.settings.Gateway.Origins {
		urls, err := c.URLs()
		if err != nil {
			return fmt.Errorf("origins.%s: %w", name, err)
		}
		addresses[name] = urls
		for _, u := range urls {
			hosts = append(hosts, u.Host)
		}
	}
	for name, urls := range addresses {
		n.origins[name], err = origin.New(name, urls, n.cache, n.settings.origin(), n.logger, origin.WithRedirectHosts(hosts...))
		if err != nil {
			return err
		}
	}
	return nil
}

// guarded are the chains as the sessions want them.
func (n *node) guarded() map[string]actors.Backend {
	all := make(map[string]actors.Backend, len(n.chains))
	for name, c := range n.chains {
		all[name] = guardedBackend{c}
	}
	return all
}

// guardedBackend is a chain in the sessions' words.
type guardedBackend struct{ *backends.Chain }

// Health is where the breaker stands.
func (g guardedBackend) Health() actors.Health {
	switch g.State() {
	case backends.BreakerClosed:
		return actors.Healthy
	case backends.BreakerHalfOpen:
		return actors.Probing
	default:
		return actors.Down
	}
}

func (n *node) rules() map[string]actors.Rules {
	all := make(map[string]actors.Rules, len(n.chains))
	for name, b := range n.settings.Backends {
		r := b.Around.rules()
		r.ReviveDenied = n.chains[name].FailOpen.Policy() == backends.PolicyDeny
		if life := n.settings.tokenLife(name); life > 0 {
			r.TokenLife = life
		}
		all[name] = r
	}
	return all
}

// close ends what newNode started.
func (n *node) close() {
	if n.registry != nil {
		n.registry.Close()
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
	if n.memory != nil {
		n.memory.Close()
	}
	for _, a := range n.adapters {
		a.close()
	}
}

// run serves on the listeners until ctx ends, then drains.
func (n *node) run(ctx context.Context, on listeners) error {
	// What viewers need runs until the last one has been served.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, life := errgroup.WithContext(life)
	for _, c := range n.chains {
		group.Go(func() error { return c.Run(life) })
	}
	for _, a := range n.adapters {
		if a.run != nil {
			group.Go(func() error { return a.run(life) })
		}
	}
	if on.operator != nil {
		group.Go(func() error { return n.serveAdmin(life, on.operator) })
	}
	group.Go(func() error {
		defer end()
		return n.serveViewers(ctx, life, on)
	})
	return group.Wait()
}

// serveViewers serves viewers and the edges that ask about them until ctx ends and all are drained, or another part of
// the node fails, which ends its life.
func (n *node) serveViewers(ctx, life context.Context, on listeners) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(life, stop)()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.server.Run(ctx, on.public) })
	if on.envoy != nil {
		envoy := extauthz.New(n.settings.ExtAuthz, n.settings.Gateway.Drain, n.gateway, n.logger)
		group.Go(func() error { return envoy.Run(ctx, on.envoy) })
	}
	return group.Wait()
}

// serveAdmin serves the admin listener until ctx ends: after the public one has drained, so that balancers can see it.
func (n *node) serveAdmin(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           admin.Handler(n.settings.Admin, (*adminNode)(n)),
		ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin.listen=%s: %w", n.settings.Admin.Listen, err)
	}
	return nil
}

// gatewaySessions are the sessions in the gateway's words.
type gatewaySessions node

// Find returns the live session, or nil.
func (e *gatewaySessions) Find(id backends.SessionID) gateway.Session {
	if s := e.registry.Find(id); s != nil {
		return s
	}
	return nil
}

// Open opens the session.
func (e *gatewaySessions) Open(ctx context.Context, a backends.Arrival) (gateway.Session, error) {
	s, err := e.registry.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// adminNode is the node in the admin listener's words.
type adminNode node

// Ready reports whether balancers may send viewers here.
func (a *adminNode) Ready() bool { return a.server.Ready() }

// Len counts the live sessions.
func (a *adminNode) Len() int { return a.registry.Len() }

// Sessions shows the live sessions.
func (a *adminNode) Sessions(yield func(admin.Session) bool) {
	a.registry.Each(func(s *actors.Session) bool { return yield(shownSession(s)) })
}

func shownSession(s *actors.Session) admin.Session {
	f, since := s.Facts(), s.Ticket().Opened
	shown := admin.Session{
		ID: s.ID().String(), Route: f.Route, Channel: f.Channel, Backend: f.Backend,
		Address: f.Address.String(), UserAgent: f.UserAgent, Verdict: "opening", Source: backends.NoSource.String(),
		Since: since, LastSeen: s.LastSeen(), Requests: s.Requests(), Bytes: s.Bytes(),
	}
	if d := s.Decision(); d != nil {
		shown.Verdict, shown.Source, shown.Reason = d.Verdict.String(), d.Source.String(), d.Reason
		shown.User, shown.UserID = d.User, d.UserID
	}
	return shown
}

// Backends shows the backends.
func (a *adminNode) Backends() []admin.Backend {
	var all []admin.Backend
	for name, c := range a.chains {
		all = append(all, admin.Backend{
			Name: name, Kind: a.settings.Backends[name].Kind, Address: a.adapters[name].shown,
			Breaker: c.State().String(), OnFailure: c.FailOpen.Policy().String(), Alarms: shownAlarms(a.adapters[name].watch),
		})
	}
	return all
}

// shownAlarms are all alarms that a backend can raise; nil for one that asks nobody.
func shownAlarms(w *backends.Watch) map[string]admin.AlarmState {
	if w == nil {
		return nil
	}
	all := map[string]admin.AlarmState{}
	for _, alarm := range backends.Alarms() {
		all[alarm.String()] = admin.AlarmState{Count: w.Count(alarm), Raised: w.Raised().Has(alarm)}
	}
	return all
}
