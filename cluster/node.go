package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/events"
	"usher/cluster/known"
	"usher/cluster/matches"
	"usher/cluster/redisclient"
	"usher/cluster/reports"
)

// minRetention is the least time for which the shared state outlives the last node.
const minRetention = 24 * time.Hour

// Options are what a [Node] is made of.
type Options struct {
	Config Config
	// ReviveFor is how old a ticket may be whose session is unknown.
	ReviveFor time.Duration
	Limits    session.LimitRules
	// Version is shown to the other nodes, and so is Address, where viewers reach the node.
	Version, Address string
	// Sessions returns how many sessions the node has. It is called twice a second; nil: none.
	Sessions func() int
	// Draining reports whether the node takes no new viewers. It is called twice a second; nil: it does take them.
	Draining func() bool
	// OnRedisCall is told of each call of Redis, as [redisclient.Client.OnCall] says. It must not block; nil: nobody is told.
	OnRedisCall func(operation, outcome string, took time.Duration)
	// OnRevocationReceived is told of each revocation of another node, and how long ago that one issued it. It must not block;
	// nil: nobody is told.
	OnRevocationReceived func(kind session.RevocationKind, delay time.Duration)
	Logger               *slog.Logger // nil: none
}

// Handlers receive a node's events. All are called from goroutines of the node's and must not block, except Answer. Each
// may be nil.
type Handlers struct {
	// OnRevocation receives revocations. Bans are up to date by then.
	OnRevocation func(session.Revocation)
	// RecheckAll is called when revocations may have been lost: every live session must be looked up again.
	RecheckAll func()
	// OnRedisRecovered is called after each outage of Redis.
	OnRedisRecovered func()
	// OnStateLost is called when Redis lost its data.
	OnStateLost func()
	// OnTicketReplaced is called when a session was stored with another ticket than before: it must be looked up again.
	OnTicketReplaced func(backends.SessionID)
	// OnTicketsMissed is called when OnTicketReplaced may not have been called for some sessions. It concerns those of which
	// another node may have signed another ticket, since the store has failed: they must be looked up again.
	OnTicketsMissed func()
	// OnLimitExceeded is called when a user exceeds the stream limit: the user's streams must be reported. The user is
	// named by [Node.UserHash].
	OnLimitExceeded func(userHash string)
	// OnKnown is called with each viewer whom a node has allowed, by [Node.ViewerKey], and when.
	OnKnown func(key uint64, allowed time.Time)
	// OnForced is called with each order on a breaker, this node's own included.
	OnForced func(backends.ForcedBreaker)
	// Answer answers a request that a node sent to all; see [Node.Ask].
	Answer func(ctx context.Context, request []byte) []byte
}

// Node is one of the nodes that share sessions, or a single node. It is safe for concurrent use.
type Node struct {
	Store    // where the sessions are
	o        Options
	id, name string
	started  time.Time
	cipher   *redisclient.Cipher
	bans     *events.Bans
	forced   *events.Forced
	handlers atomic.Pointer[Handlers]
	memory   *Memory        // of a single node
	redis    *Redis         // nil: a single node
	broker   *events.Broker // nil: a single node
	reports  *reports.Store
	known    *known.Sharing   // nil: a single node
	matches  *matches.Sharing // nil: a single node

	file       *events.BanFile // nil: bans are not kept over a restart
	background sync.WaitGroup  // writes the file
	stop       context.CancelFunc
	kicks      sync.WaitGroup  // revokes the tickets of kicked sessions
	kicking    context.Context //nolint:containedctx // of kicks
	endKicks   context.CancelFunc
}

// Open makes a node. It connects on first use, so an unavailable Redis is no error. Close ends the node.
func Open(o Options) (*Node, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{o: o, id: events.NewID(), name: o.Config.NodeName, started: time.Now(), bans: events.NewBans(), forced: events.NewForced()}
	if n.name == "" {
		n.name, _ = os.Hostname() // a node without a name is shown without one
	}
	n.kicking, n.endKicks = context.WithCancel(context.Background())
	n.handlers.Store(new(Handlers))
	n.o.Limits.HeartbeatInterval = o.Config.HeartbeatInterval
	local, err := NewMemory(o.Config.Memory, o.ReviveFor, n.o.Limits)
	if err != nil {
		return nil, err
	}
	if err := n.openFile(); err != nil {
		local.Close()
		return nil, err
	}
	if o.Config.Enabled() {
		err = n.join(local)
	} else {
		err = n.stayAlone(local)
	}
	if err != nil {
		local.Close()
		return nil, err
	}
	return n, n.loadFile()
}

// stayAlone makes the node a single one.
func (n *Node) stayAlone(local *Memory) (err error) {
	n.memory, n.Store, local.OnExceeded = local, local, n.limitExceeded
	secret := setting.Secret(rand.Text())
	if n.file != nil { // what it has encrypted and hashed must be known after a restart
		if secret, err = n.file.Secret(); err != nil {
			return fmt.Errorf("cluster.state_dir: %w", err)
		}
	}
	n.cipher, err = redisclient.NewCipher([]setting.Key{{ID: "alone", Secret: secret}})
	n.reports = reports.New(nil, nil)
	return err
}

// banFile returns the path of the file of bans.
func (c Config) banFile() string { return filepath.Join(c.StateDir, "bans.db") }

// openFile opens the file of bans, if there is to be one.
func (n *Node) openFile() (err error) {
	if err := n.o.Config.CheckStateDir(); err != nil {
		return err
	}
	if n.o.Config.StateDir != "" {
		if n.file, err = events.OpenBanFile(n.o.Config.banFile(), n.o.Logger); err != nil {
			return fmt.Errorf("cluster.state_dir: %w", err)
		}
	}
	return nil
}

// loadFile takes the bans from the file, and has what changes written to it.
func (n *Node) loadFile() error {
	if n.file == nil {
		return nil
	}
	now := time.Now()
	if err := errors.Join(n.file.Load(n.cipher, n.bans, now), n.file.KeepForced(n.cipher, n.forced, now)); err != nil {
		n.Close()
		return fmt.Errorf("cluster.state_dir: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.background.Go(func() { n.file.Run(ctx, n.cipher, n.bans) })
	return nil
}

// join makes the node one of a cluster.
func (n *Node) join(local *Memory) error {
	r, err := NewRedis(n.o.Config, RedisDeps{
		NodeID: n.id, ReviveFor: n.o.ReviveFor, Local: local, Limits: n.o.Limits, Logger: n.o.Logger, OnCall: n.o.OnRedisCall,
		OnDenied: n.announceDenied,
	})
	if err != nil {
		return fmt.Errorf("cluster.%w", err)
	}
	n.redis, n.Store, n.cipher, n.reports = r, r, r.cipher, reports.New(r.client, r.cipher)
	n.broker = events.New(events.Options{
		Client: r.client, Cipher: r.cipher, Bans: n.bans, Forced: n.forced, NodeID: n.id, NodeName: n.name, Started: n.started,
		Retention: max(minRetention, n.o.ReviveFor), Status: n.status, Logger: n.o.Logger,
		OnRevocation: n.revoked, OnReceived: n.o.OnRevocationReceived, RecheckAll: n.recheckAll, OnStateLost: n.stateLost, OnDecision: r.waiters.notify,
		OnTicketReplaced: n.ticketReplaced, OnTicketsMissed: n.ticketsMissed,
		OnLimitExceeded: n.limitExceeded, OnForced: n.onForced, Answer: n.answer,
	})
	n.known = known.New(r.client, n.onKnown, n.o.Logger)
	n.matches = matches.New(r.client, r.cipher, n.o.Logger)
	r.client.OnRecovered(n.broker.Resync)
	r.client.OnRecovered(n.redisRecovered)
	return nil
}

// Close ends the node's background work and its connections, after Run has returned. It must not be used afterwards.
func (n *Node) Close() {
	late := time.AfterFunc(closeTimeout, n.endKicks)
	n.kicks.Wait()
	late.Stop()
	n.endKicks()
	if n.stop != nil {
		n.stop()
		n.background.Wait()
	}
	if n.redis != nil {
		n.redis.Close()
		return
	}
	n.memory.Close()
}

// Handle sets what is told of events, and tells OnForced at once which orders hold. Call it before anything that revokes or
// bans: there is nobody to be told of what happens earlier.
func (n *Node) Handle(h Handlers) {
	n.handlers.Store(&h)
	for _, order := range n.forced.All(time.Now()) {
		n.onForced(order)
	}
}

// Run receives the events of the other nodes and announces this node until ctx ends; then it removes the node from the
// list.
func (n *Node) Run(ctx context.Context) {
	if n.broker == nil {
		<-ctx.Done()
		return
	}
	var running sync.WaitGroup
	running.Go(func() { n.known.Run(ctx) })
	running.Go(func() { n.matches.Run(ctx) })
	n.broker.Run(ctx)
	running.Wait()
}

// Shared reports whether other nodes share the store.
func (n *Node) Shared() bool { return n.redis != nil }

// InMemory reports whether the store is this node's own memory.
func (n *Node) InMemory() bool { return n.redis == nil }

// Name returns the name that the node is shown by.
func (n *Node) Name() string { return n.name }

// Live returns how many nodes are alive, this one included, as of the last heartbeat. It takes no round trip.
func (n *Node) Live() int {
	if n.broker == nil {
		return 1
	}
	return n.broker.LiveNodes()
}

// RedisDown reports whether Redis is unavailable. It takes no round trip.
func (n *Node) RedisDown() bool { return n.redis != nil && n.redis.IsDown() }

// RoundTrips returns how many round trips to Redis sessions waited for since the start. Calls that arrive together share
// one.
func (n *Node) RoundTrips() uint64 {
	if n.redis == nil {
		return 0
	}
	return n.redis.client.RoundTrips()
}

// UserHash returns the name by which the other nodes know a user.
func (n *Node) UserHash(user string) string { return n.cipher.UserHash(user) }

// ViewerKey returns the number by which the other nodes know what a viewer shows.
func (n *Node) ViewerKey(shown []byte) uint64 { return n.cipher.Number("viewer", shown) }

// Nodes lists the nodes that are alive, and those that fell silent within a minute. The error is ErrStoreUnavailable or ctx's: then
// the nodes are as this one saw them last.
func (n *Node) Nodes(ctx context.Context) ([]session.NodeInfo, error) {
	if n.broker != nil {
		return n.broker.Nodes(ctx)
	}
	s := n.status()
	return []session.NodeInfo{{
		ID: n.id, Name: n.name, Address: s.Address, Version: s.Version,
		Started: n.started.UTC().Truncate(time.Second), LastSeen: time.Now().UTC(),
		Sessions: s.Sessions, IsDraining: s.IsDraining, IsAlive: true, IsSelf: true,
	}}, nil
}

// Ask sends a request to all live nodes, including this one, and waits until all have replied or ctx ends. It returns the
// replies by the nodes' names, and the names of the nodes that did not reply as silent.
func (n *Node) Ask(ctx context.Context, request []byte) (replies map[string][]byte, silent []string) {
	if n.broker != nil {
		return n.broker.Call(ctx, request)
	}
	return map[string][]byte{n.name: n.answer(ctx, request)}, nil
}

// Revoke sends a revocation to all nodes; this one applies it first. With an error, the others receive it when Redis has
// recovered.
func (n *Node) Revoke(ctx context.Context, v session.Revocation) error {
	if n.broker == nil {
		n.revoked(v)
		return nil
	}
	return n.broker.Publish(ctx, v)
}

// announceDenied sends to the other nodes what was denied in an outage. If that fails, the broker sends it again.
func (n *Node) announceDenied(ctx context.Context, v session.Revocation) {
	_ = n.broker.Publish(ctx, v)
}

// revoked applies a revocation to this node.
func (n *Node) revoked(v session.Revocation) {
	switch v.Kind {
	case session.RevokedBanned:
		n.addBans(v.Ban) // and hands it on unless it is known
		return
	case session.RevokedUnbanned:
		if len(n.bans.Remove(v.Ban.ID, v.Ban.Until)) == 0 {
			return
		}
	case session.RevokedKicked:
		if v.Opened.IsZero() && time.Now().After(v.Until) {
			return // the kick is over, and a session that lives now was opened since
		}
	}
	if f := n.handlers.Load().OnRevocation; f != nil {
		f(v)
	}
}

func (n *Node) recheckAll() {
	if f := n.handlers.Load().RecheckAll; f != nil {
		f()
	}
}

// stateLost writes again what this node knows of what Redis lost.
func (n *Node) stateLost(recent []events.Issued) {
	n.matches.Lose(time.Now())
	n.redis.denyAgain(recent)
	if f := n.handlers.Load().OnStateLost; f != nil {
		f()
	}
}

func (n *Node) redisRecovered() {
	if f := n.handlers.Load().OnRedisRecovered; f != nil {
		f()
	}
}

func (n *Node) ticketReplaced(id backends.SessionID) {
	if f := n.handlers.Load().OnTicketReplaced; f != nil {
		f(id)
	}
}

func (n *Node) ticketsMissed() {
	if f := n.handlers.Load().OnTicketsMissed; f != nil {
		f()
	}
}

func (n *Node) limitExceeded(userHash string) {
	if f := n.handlers.Load().OnLimitExceeded; f != nil {
		f(userHash)
	}
}

func (n *Node) onKnown(key uint64, allowed time.Time) {
	if f := n.handlers.Load().OnKnown; f != nil {
		f(key, allowed)
	}
}

func (n *Node) answer(ctx context.Context, request []byte) []byte {
	if f := n.handlers.Load().Answer; f != nil {
		return f(ctx, request)
	}
	return nil
}

// status returns what the node reports about itself.
func (n *Node) status() events.NodeStatus {
	s := events.NodeStatus{Name: n.name, Address: n.o.Address, Version: n.o.Version}
	if n.o.Sessions != nil {
		s.Sessions = n.o.Sessions()
	}
	s.IsDraining = n.o.Draining != nil && n.o.Draining()
	return s
}
