package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Options are what a [Node] is made of.
type Options struct {
	Config Config
	// ReviveMaxAge is how old a ticket may be that nobody remembers.
	ReviveFor time.Duration
	Limits    session.LimitRules
	// Version and Address, where viewers reach the node, are shown to the other nodes. Sessions and Draining are asked
	// twice a second; nil means none and no.
	Version, Address string
	Sessions         func() int
	Draining         func() bool
	Logger           *slog.Logger // nil: none
}

// Handlers are what a node tells. All are called from goroutines of the node's and must not block, but for Answer.
type Handlers struct {
	// Revoked is told what has to go. Bans are up to date by then.
	Revoked func(session.Revocation)
	// Reread: revocations may have been missed for good, so every live session is to be looked at again.
	Reread func()
	// Returned: Redis was away and is back.
	Returned func()
	// Over: a user exceeds his limit, so it is to be told how his sessions stand. He is named by [Node.UserHash].
	Over func(userHash string)
	// Answer answers a question that a node asked all.
	Answer func(ctx context.Context, question []byte) []byte
}

// Node is one of the nodes that share sessions, or one alone. It is safe for concurrent use.
type Node struct {
	Store    // where the sessions are
	o        Options
	id, name string
	started  time.Time
	seal     *keyring
	bans     *bans
	handlers atomic.Pointer[Handlers]
	memory   *Memory // of a node alone
	redis    *Redis  // nil: alone
	bus      *bus    // nil: alone
}

// Open makes a node. It connects when it is first used: a Redis that is away is no reason not to serve. Close ends it.
func Open(o Options) (*Node, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{o: o, id: newName(), name: o.Config.NodeName, started: time.Now(), bans: newBans()}
	if n.name == "" {
		n.name, _ = os.Hostname() // without a name it is shown without
	}
	n.handlers.Store(new(Handlers))
	local, err := NewMemory(o.Config.Memory, o.ReviveFor, o.Limits)
	if err != nil {
		return nil, err
	}
	local.over = func(user string) { n.over(n.seal.userHash(user)) }
	if o.Config.Enabled() {
		return n, n.share(local)
	}
	n.memory, n.Store = local, local
	n.seal, err = newKeyring([]backends.Key{{ID: "alone", Secret: backends.Secret(rand.Text())}})
	return n, err
}

// share makes it one of many.
func (n *Node) share(local *Memory) error {
	c, log := n.o.Config, n.o.Logger
	r, err := NewRedis(c, RedisParts{ReviveFor: n.o.ReviveFor, Limits: n.o.Limits, Local: local, Logger: log})
	if err != nil {
		local.Close()
		return fmt.Errorf("cluster: %w", err)
	}
	n.redis, n.Store, n.seal = r, r, r.seal

	keep := max(keptState, n.o.ReviveFor)
	clock, soon := new(redisClock), make(chan struct{}, 1)
	w := &wire{
		client: r.client, runner: r.runner, keys: r.keys, seal: r.seal, scripts: loadWireScripts(),
		deadline: max(c.RedisTimeout, pulseDeadline),
	}
	b := &bus{wire: w, clock: clock, started: n.started, log: log, soon: soon, woken: r.waiting.woken, over: n.over}
	b.registry = &registry{
		wire: w, clock: clock, id: n.id, started: n.started, self: n.self, keep: keep,
	}
	b.revocations = &revocations{
		wire: w, clock: clock, apply: n.apply, reread: n.reread, missed: b.hurry, lost: n.lost,
		log: log, keep: keep, contact: n.started,
	}
	b.bans = &banSync{wire: w, bans: n.bans, keep: keep, apply: n.apply, log: log}
	b.questions = &questions{
		wire: w, registry: b.registry, self: n.id, name: n.name, answer: n.answer, log: log,
		slots: make(chan struct{}, answersAtOnce), open: make(map[string]*question),
	}
	n.bus = b
	r.guard.onBack(b.hurry)
	r.guard.onBack(n.returned)
	return nil
}

// Close ends the node's background work and its connections, after Run has returned. It must not be used afterwards.
func (n *Node) Close() {
	if n.redis != nil {
		n.redis.Close()
		return
	}
	n.memory.Close()
}

// Run hears the other nodes, and makes itself known to them, until ctx ends; then it takes itself off their list.
func (n *Node) Run(ctx context.Context, h Handlers) {
	n.handlers.Store(&h)
	if n.bus == nil {
		<-ctx.Done()
		return
	}
	n.bus.run(ctx)
}

// Shared reports whether other nodes see the store.
func (n *Node) Shared() bool { return n.redis != nil }

// Name is what the node is shown by.
func (n *Node) Name() string { return n.name }

// Live is how many nodes live, this one included, as far as is known. It takes no time.
func (n *Node) Live() int {
	if n.bus == nil {
		return 1
	}
	return int(max(1, n.bus.registry.live.Load()))
}

// Away reports whether what nodes share cannot be reached. It takes no time.
func (n *Node) Away() bool { return n.redis != nil && n.redis.Away() }

// RoundTrips is how often Redis was waited for on behalf of sessions since the start. Calls that come together share one.
func (n *Node) RoundTrips() uint64 {
	if n.redis == nil {
		return 0
	}
	return n.redis.trips.Load()
}

// UserHash is what a user is known by to the other nodes.
func (n *Node) UserHash(user string) string { return n.seal.userHash(user) }

// Nodes are all that live, and those that fell silent lately. The error is ErrAway or ctx's.
func (n *Node) Nodes(ctx context.Context) ([]NodeInfo, error) {
	if n.bus != nil {
		return n.bus.registry.ask(ctx, "")
	}
	self := n.self()
	return []NodeInfo{{
		ID: n.id, Name: n.name, Address: self.Address, Version: self.Version, Started: n.started,
		Sessions: self.Sessions, Draining: self.Draining, Alive: true, Self: true,
	}}, nil
}

// Ask asks all nodes that live, this one included, and waits until all have answered or ctx ends. silent are the names of
// those that did not answer.
func (n *Node) Ask(ctx context.Context, question []byte) (answers []Answer, silent []string) {
	if n.bus != nil {
		return n.bus.questions.ask(ctx, question)
	}
	return []Answer{{Node: n.name, Body: n.answer(ctx, question)}}, nil
}

// Revoke tells all nodes, this one first, what has to go. With an error the others hear of it when Redis is back.
func (n *Node) Revoke(ctx context.Context, v session.Revocation) error {
	if n.bus == nil {
		n.apply(v)
		return nil
	}
	return n.bus.revocations.issue(ctx, v)
}

// Kick ends a session on all nodes, if it was opened at that time or before; zero: whenever. For so long it is refused,
// whatever its viewer shows. With an error this node obeys already, and the others do when Redis is back.
func (n *Node) Kick(
	ctx context.Context, id backends.SessionID, opened time.Time, d time.Duration, decision backends.Decision,
) error {
	stored := n.RevokeSession(ctx, id, opened, d)
	told := n.Revoke(ctx, session.Revocation{
		Kind: session.RevokedKicked, Session: id, Opened: opened, Decision: decision, Until: time.Now().Add(d),
	})
	if stored != nil {
		return stored
	}
	return told
}

// apply does on this node what was revoked somewhere.
func (n *Node) apply(v session.Revocation) {
	now := time.Now()
	switch v.Kind {
	case session.RevokedBanned:
		if len(n.bans.add(now, v.Ban)) == 0 {
			return // it is known
		}
	case session.RevokedUnbanned:
		if len(n.bans.lift(v.Ban.ID, v.Ban.Until)) == 0 {
			return
		}
	case session.RevokedKicked:
		if v.Opened.IsZero() && now.After(v.Until) {
			return // whoever plays now was opened since
		}
	}
	if revoked := n.handlers.Load().Revoked; revoked != nil {
		revoked(v)
	}
}

// lost has written again what refuses viewers: Redis lost it, or some of it. lately are this node's own revocations.
func (n *Node) lost(lately []issued) {
	n.bans.writeLater()
	n.redis.refuseAgain(lately)
}

func (n *Node) reread() {
	if reread := n.handlers.Load().Reread; reread != nil {
		reread()
	}
}

func (n *Node) returned() {
	if returned := n.handlers.Load().Returned; returned != nil {
		returned()
	}
}

func (n *Node) over(userHash string) {
	if over := n.handlers.Load().Over; over != nil {
		over(userHash)
	}
}

func (n *Node) answer(ctx context.Context, question []byte) []byte {
	if answer := n.handlers.Load().Answer; answer != nil {
		return answer(ctx, question)
	}
	return nil
}

// self is what the node says of itself.
func (n *Node) self() wireNode {
	w := wireNode{Name: n.name, Address: n.o.Address, Version: n.o.Version}
	if n.o.Sessions != nil {
		w.Sessions = n.o.Sessions()
	}
	w.Draining = n.o.Draining != nil && n.o.Draining()
	return w
}
