package simulate

import (
	"context"
	"hash/fnv"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/actors"
	"usher/actors/session"
	"usher/backends"
	"usher/backends/chain"
	"usher/cluster"
)

const (
	backendName = "portal"
	// storeLatency is a round trip to the store.
	storeLatency = time.Millisecond
	// heartbeatInterval is cluster.heartbeat_interval.
	heartbeatInterval = 20 * time.Second
	reviveFor         = 6 * time.Hour
)

// nodes are the nodes of a cluster, and the store that they share.
type nodes struct {
	// count is how many there are, live what each of them knows of that.
	count, live int
	store       *cluster.Memory
	all         []*actors.Registry
	chains      []*chain.Chain
}

// newNodes makes a cluster that asks the middleware. The observer is told what its sessions do.
func newNodes(c *Config, m *middleware, o actors.Observer) (*nodes, error) {
	sessions := actors.DefaultConfig()
	rules := sessions.LimitRules()
	rules.HeartbeatInterval = heartbeatInterval
	store, err := cluster.NewMemory(cluster.MemoryConfig{MaxSessions: storedPerViewer*c.Sample + leastStored}, reviveFor, rules)
	if err != nil {
		return nil, err
	}
	n := &nodes{count: c.Nodes, live: c.Nodes, store: store}
	store.OnExceeded = func(user string) {
		for _, registry := range n.all {
			registry.OnLimitExceeded(user)
		}
	}
	config := chain.DefaultConfig()
	config.OnFailure = c.OnFailure
	if err := config.Validate(); err != nil {
		return nil, err
	}
	for range c.Nodes {
		way := &client{middleware: m}
		portal := chain.New(backendName, config, way, chain.Deps{})
		way.isDown = portal.IsDown
		n.chains = append(n.chains, portal)
		n.all = append(n.all, actors.NewRegistry(actors.Options{
			Config: sessions, ReviveFor: reviveFor, Cluster: &member{Memory: store, nodes: n},
			Backends: map[string]actors.BackendOptions{backendName: {Backend: portal, Rules: actors.BackendRules{
				Validity: c.Validity, RecheckRate: c.sampleRecheckRate(), Timeout: config.Timeout,
				AnswerDeadline: config.Bulkhead.AnswerDeadline, ReviveDenied: c.OnFailure == backends.PolicyDeny,
			}}},
			HeartbeatInterval: heartbeatInterval, SigningKey: func() string { return "a" }, Observer: o,
		}))
	}
	return n, nil
}

// The store remembers sessions that have ended.
const (
	storedPerViewer = 20
	leastStored     = 10_000
)

// run drives the nodes' breakers until ctx ends.
func (n *nodes) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range n.chains {
		group.Go(func() error { return c.Run(ctx) })
	}
	return group.Wait()
}

func (n *nodes) close() {
	for _, registry := range n.all {
		registry.Close()
	}
	n.store.Close()
	time.Sleep(deadLetterPeriod)
}

// deadLetterPeriod is longer than protoactor counts messages that came too late, for which the end of the bubble would not wait.
const deadLetterPeriod = 5 * time.Second

// waiting returns how many re-checks wait on all nodes, and on how many of them the breaker is not closed.
func (n *nodes) waiting() (rechecks, down int) {
	for i, registry := range n.all {
		rechecks += registry.RechecksWaiting(backendName)
		if n.chains[i].IsDown() {
			down++
		}
	}
	return rechecks, down
}

// member is the cluster as one node sees it. Nobody is banned.
type member struct {
	*cluster.Memory
	nodes *nodes
}

// Shared reports that there are other nodes.
func (m *member) Shared() bool { return m.nodes.count > 1 }

// InMemory reports that there are none.
func (m *member) InMemory() bool { return !m.Shared() }

// Live returns the number of nodes.
func (m *member) Live() int { return m.nodes.live }

// UserHash returns the user.
func (m *member) UserHash(user string) string { return user }

// ViewerKey returns a hash of what the viewer shows.
func (m *member) ViewerKey(shown []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(shown)
	return h.Sum64()
}

// ShareKnown tells all nodes of the viewer.
func (m *member) ShareKnown(key uint64) {
	for _, registry := range m.nodes.all {
		registry.OnKnown(key, time.Now())
	}
}

// Banned reports that nobody is banned.
func (m *member) Banned(*backends.Request, *backends.Decision) (session.Ban, bool) {
	return session.Ban{}, false
}

// AwaitBans waits for nothing.
func (m *member) AwaitBans(context.Context) error { return nil }

// BanCredentials bans nobody.
func (m *member) BanCredentials(context.Context, iter.Seq2[session.Ban, *backends.Request]) error {
	return nil
}

// Revoke tells all nodes.
func (m *member) Revoke(_ context.Context, v session.Revocation) error {
	for _, registry := range m.nodes.all {
		registry.OnRevocation(v)
	}
	return nil
}

// AcquireLease takes a round trip.
func (m *member) AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error) {
	if err := wait(ctx, storeLatency); err != nil {
		return session.LeaseResult{}, err
	}
	return m.Memory.AcquireLease(ctx, r)
}

// SaveDecision takes a round trip.
func (m *member) SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error) {
	if err := wait(ctx, storeLatency); err != nil {
		return session.OutcomeStored, err
	}
	return m.Memory.SaveDecision(ctx, u)
}
