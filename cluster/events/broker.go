package events

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

const (
	// heartbeatInterval is so short that what a subscription lost unnoticed is applied within a second.
	heartbeatInterval = 500 * time.Millisecond
	// heartbeatRetryDelay is the pause after a heartbeat that failed, so that the recovery of Redis is noticed soon.
	heartbeatRetryDelay = 150 * time.Millisecond
	// leaveTimeout bounds how long a node that stops waits for Redis.
	leaveTimeout = 250 * time.Millisecond
)

// Options are what a [Broker] is made of. All are required but those whose comment says otherwise. The functions are called from
// goroutines of the broker's and must not block, except Answer.
type Options struct {
	Client *redisclient.Client
	Cipher *redisclient.Cipher
	// Bans are those of this node. The broker keeps them the same as those in Redis.
	Bans *Bans
	// Forced are the orders on breakers that this node knows. The broker keeps them the same as those in Redis.
	Forced *Forced
	// NodeID is the node's own, NodeName is the one in its configuration.
	NodeID, NodeName string
	Started          time.Time
	// Retention is for how long the shared state outlives the last node.
	Retention time.Duration
	// Status returns what the node reports about itself. It is called twice a second.
	Status func() NodeStatus
	Logger *slog.Logger

	// OnRevocation receives each revocation once, this node's own included.
	OnRevocation func(session.Revocation)
	// OnReceived is told of each revocation of another node, and how long ago that one issued it; nil: nobody is. The time is
	// that of Redis, so that the clocks of nodes need not agree.
	OnReceived func(kind session.RevocationKind, delay time.Duration)
	// RecheckAll is called when revocations were lost, so that every live session must be looked up again.
	RecheckAll func()
	// OnStateLost is called when Redis lost the shared state, with the revocations that this node issued lately.
	OnStateLost func(recent []Issued)
	// OnDecision is called when a decision that other nodes wait for was stored.
	OnDecision func(backends.SessionID)
	// OnTicketReplaced is called when a session was stored with another ticket than before.
	OnTicketReplaced func(backends.SessionID)
	// OnTicketsMissed is called each time that the messages of replaced tickets are subscribed: earlier ones may have been
	// missed.
	OnTicketsMissed func()
	// OnLimitExceeded is called when a user begins to exceed the stream limit.
	OnLimitExceeded func(userHash string)
	// OnForced receives each order on a breaker that another node has stored.
	OnForced func(backends.ForcedBreaker)
	// Answer answers a request of a node.
	Answer func(ctx context.Context, request []byte) []byte
}

// onReceived tells of a revocation that another node issued since this one started: a replay may begin earlier.
func (o *Options) onReceived(v session.Revocation, delay time.Duration) {
	if o.OnReceived != nil && delay <= time.Since(o.Started) && o.Bans.isNews(v) {
		o.OnReceived(v.Kind, delay)
	}
}

// Broker carries events between nodes: revocations, bans, requests, heartbeats. It is safe for concurrent use.
type Broker struct {
	client          *redisclient.Client
	started         time.Time
	registry        *nodeRegistry
	revocations     *revocationStream
	bans            *banSync
	forced          *forcedSync
	rpc             *nodeRPC
	restoration     *restoration
	onDecision      func(backends.SessionID)
	onTicket        func(backends.SessionID)
	onTicketsMissed func()
	onLimitExceeded func(userHash string)
	log             *slog.Logger

	// wake asks for a heartbeat at once, and for a replay with it. It holds one.
	wake chan struct{}
	// wakeOnly asks for a heartbeat at once. It holds one.
	wakeOnly chan struct{}
	// hasFailed: the last heartbeat failed. It belongs to the heartbeat goroutine.
	hasFailed bool
}

// New makes a broker. It does nothing before [Broker.Run].
func New(o Options) *Broker {
	clock := new(redisclient.Clock)
	b := &Broker{
		client: o.Client, started: o.Started, bans: newBanSync(o), forced: newForcedSync(o), onDecision: o.OnDecision, onTicket: o.OnTicketReplaced,
		onTicketsMissed: o.OnTicketsMissed,
		onLimitExceeded: o.OnLimitExceeded, log: o.Logger, wake: make(chan struct{}, 1),
		wakeOnly: make(chan struct{}, 1), restoration: newRestoration(),
	}
	b.registry = &nodeRegistry{
		client: o.Client, clock: clock, nodeID: o.NodeID, started: o.Started, status: o.Status, retention: o.Retention,
		heartbeatScript: redisclient.LoadScript(scripts, "node_heartbeat"),
		listScript:      redisclient.LoadScript(scripts, "list_nodes"),
	}
	b.revocations = &revocationStream{
		client: o.Client, cipher: o.Cipher, clock: clock, retention: o.Retention, log: o.Logger,
		onRevocation: b.bans.onMessage, onReceived: o.onReceived, requestReplay: b.Resync,
		recheckAll: func() {
			o.Bans.markUnsynced()
			o.RecheckAll()
		},
		onStateLost: func(recent []Issued) {
			o.Bans.markUnsynced()
			o.OnStateLost(recent)
		},
		publishScript: redisclient.LoadScript(scripts, "publish_revocations"),
		readScript:    redisclient.LoadScript(scripts, "read_revocations"),
		lastCurrent:   o.Started,
	}
	b.rpc = &nodeRPC{
		client: o.Client, cipher: o.Cipher, registry: b.registry, nodeID: o.NodeID, nodeName: o.NodeName, answer: o.Answer,
		log: o.Logger, slots: make(chan struct{}, maxConcurrentRequests), pending: make(map[string]*pendingRequest),
	}
	return b
}

// Run receives events and announces the node until ctx ends; then it removes the node from the list.
func (b *Broker) Run(ctx context.Context) {
	k := b.client.Keys()
	subscription := b.client.NewSubscription(
		[]string{k.RevocationChannel(), k.NodeChannel(b.registry.nodeID), k.DecisionChannel(), k.LimitChannel()},
		func(channel, payload string) { b.onMessage(ctx, channel, payload) }, b.onSubscribed)
	var running sync.WaitGroup
	running.Go(func() { subscription.Run(ctx) })
	running.Go(func() { b.sendHeartbeats(ctx, subscription) })
	running.Wait()
	b.rpc.answering.Wait()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := b.registry.leave(ctx); err != nil {
		b.log.Info("node not removed from the list, the others forget it in a minute", slog.Any("error", err))
	}
}

// onSubscribed makes up for the messages that were sent while the node was not subscribed.
func (b *Broker) onSubscribed() {
	b.registry.noteEcho(b.registry.heartbeats.Load()) // earlier ones cannot come back
	b.Resync()
	b.onTicketsMissed()
}

func (b *Broker) onMessage(ctx context.Context, channel, payload string) {
	k := b.client.Keys()
	switch channel {
	case k.RevocationChannel():
		b.revocations.onMessage(payload)
	case k.DecisionChannel():
		payload, isTicket := strings.CutSuffix(payload, " ticket")
		id, err := backends.ParseSessionID(payload)
		switch {
		case err != nil:
		case isTicket:
			b.onTicket(id)
		default:
			b.onDecision(id)
		}
	case k.LimitChannel():
		b.onLimitExceeded(payload)
	default:
		b.rpc.onMessage(ctx, payload)
	}
}

// RevocationsDropped returns how many revocations of this node were not told, because Redis was unavailable for too long.
func (b *Broker) RevocationsDropped() uint64 { return b.revocations.allDropped.Load() }

// Resync asks for a heartbeat and a replay at once. It does not block.
func (b *Broker) Resync() { notify(b.wake) }

// notify sends to a channel that holds one. It does not block.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// AwaitBans waits until this node knows what all live nodes know of bans. It does not after Redis lost its data, until each
// of them has written its part again. The error is ErrStoreUnavailable, when nothing can be known, or that of ctx.
func (b *Broker) AwaitBans(ctx context.Context) error {
	return b.restoration.await(ctx, func() { notify(b.wakeOnly) }, b.client.IsDown)
}

func (b *Broker) sendHeartbeats(ctx context.Context, subscription *redisclient.Subscription) {
	// The subscription wakes it first, so that what the others send to a node that they see alive reaches it.
	next := time.NewTimer(heartbeatInterval)
	defer next.Stop()
	for {
		mustReplay := false
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-b.wakeOnly:
		case <-b.wake:
			mustReplay = true
		}
		b.restoration.begin()
		isRestored, err := b.heartbeat(ctx, subscription, mustReplay)
		b.restoration.end(isRestored)
		delay := heartbeatInterval
		if b.hasFailed = err != nil; b.hasFailed || !isRestored {
			delay = heartbeatRetryDelay
		}
		next.Reset(delay)
	}
}

// heartbeat sends a heartbeat, and catches up with what its reply shows to be missed. After a failure it replays in any
// case. It reports whether this node knows all bans; see [Broker.AwaitBans].
func (b *Broker) heartbeat(
	ctx context.Context, subscription *redisclient.Subscription, mustReplay bool,
) (isRestored bool, err error) {
	reply, err := b.registry.heartbeat(ctx)
	if err != nil {
		return false, err
	}
	mustReplay = mustReplay || b.hasFailed
	if b.registry.missesEchoes() { // it may be dead without an error
		b.registry.noteEcho(b.registry.heartbeats.Load())
		subscription.Reconnect()
		mustReplay = true
	}
	if isRestored = b.restoration.onEpoch(reply.epoch); !isRestored {
		// The list comes first, so that the replay has what the listed nodes wrote.
		nodes, err := b.registry.list(ctx, b.client.RunDirect, "")
		if err != nil {
			return false, err
		}
		isRestored, mustReplay = b.restoration.onList(nodes, reply.epochAge), true
	}
	if b.revocations.isBehind(reply, b.started) || mustReplay {
		if err := b.revocations.replay(ctx); err != nil {
			return false, err
		}
	}
	if err := errors.Join(b.syncBans(ctx), b.forced.sync(ctx, reply)); err != nil {
		return false, err
	}
	if b.registry.setWritten(reply.epoch) {
		notify(b.wakeOnly) // the other nodes wait for that
	}
	b.revocations.sendQueued(ctx)
	if !b.registry.confirmOthers(reply.live) {
		_, _ = b.registry.list(ctx, b.client.Run, "") // it serves names alone, and the next heartbeat tries again
	}
	others, _ := b.registry.lastOthers()
	b.restoration.setOthers(others)
	return isRestored, nil
}

// syncBans makes this node and Redis know the same bans.
func (b *Broker) syncBans(ctx context.Context) error {
	b.bans.bans.expire(time.Now())
	if b.bans.isNeeded() {
		if err := b.bans.sync(ctx); err != nil {
			return err
		}
	}
	return b.bans.storeQueued(ctx)
}

// LiveNodes returns how many nodes are alive, this one included, as of the last heartbeat.
func (b *Broker) LiveNodes() int { return int(max(1, b.registry.liveNodes.Load())) }

// Nodes lists the nodes that are alive, and those that fell silent within a minute.
func (b *Broker) Nodes(ctx context.Context) ([]session.NodeInfo, error) {
	listed, err := b.registry.list(ctx, b.client.Run, "")
	if err != nil {
		return b.registry.lastSeen(), err
	}
	nodes := make([]session.NodeInfo, len(listed))
	for i := range listed {
		nodes[i] = listed[i].NodeInfo
	}
	return nodes, nil
}

// Call sends a request to all live nodes, including this one, and waits until all have replied or ctx ends. It returns the
// names of the nodes that did not reply as silent.
func (b *Broker) Call(ctx context.Context, request []byte) (replies map[string][]byte, silent []string) {
	return b.rpc.call(ctx, request)
}

// Publish applies a revocation here and sends it to the other nodes. With an error, they receive it when Redis has
// recovered.
func (b *Broker) Publish(ctx context.Context, r session.Revocation) error {
	return b.revocations.publish(ctx, r)
}

// StoreBans writes bans of this node and sends them to the other nodes. With an error, that happens when Redis has
// recovered.
func (b *Broker) StoreBans(ctx context.Context, bans ...session.Ban) error {
	err := b.bans.storeBans(ctx, b.client.Run, bans)
	if err != nil {
		b.bans.bans.markUnsynced()
	}
	return err
}

// StoreManyBans is StoreBans for so many that calls of sessions must not wait behind them. The error is ErrStoreUnavailable.
func (b *Broker) StoreManyBans(ctx context.Context, bans ...session.Ban) error {
	if b.client.IsDown() {
		b.bans.bans.markUnsynced()
		return backends.ErrStoreUnavailable
	}
	if err := b.bans.storeBans(ctx, b.client.RunDirect, bans); err != nil {
		b.bans.bans.markUnsynced()
		return fmt.Errorf("%w: %w", backends.ErrStoreUnavailable, err)
	}
	return nil
}

// AddTombstone writes a tombstone of this node soon, and sends it to the other nodes. It does not block.
func (b *Broker) AddTombstone(t session.Ban) {
	b.bans.queue(t)
	notify(b.wakeOnly)
}

// RemoveBans removes bans from Redis and from the other nodes; each id is remembered until its time. With an error, that
// happens when Redis has recovered.
func (b *Broker) RemoveBans(ctx context.Context, unbanned map[string]time.Time) error {
	err := b.bans.removeBans(ctx, b.client.Run, unbanned)
	if err != nil {
		b.bans.bans.markUnsynced()
	}
	return err
}
