package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pulseEvery is so short that what a subscription lost unnoticed is applied within a second.
	pulseEvery = 500 * time.Millisecond
	// pulseAgain is the pause after a pulse that failed, so that Redis' return is noticed soon.
	pulseAgain = 150 * time.Millisecond
	// pulseDeadline bounds what nobody waits for. The client's own deadline may be shorter.
	pulseDeadline = 250 * time.Millisecond
	// aliveFor is for how long a node lives after a beat: a few may be lost.
	aliveFor = 3 * time.Second
	// forgottenAfter is when a node that fell silent is listed no more: long enough to see that it did.
	forgottenAfter = time.Minute
	// keptState is the least for how long what all nodes share outlives the last of them.
	keptState = 24 * time.Hour
)

// NodeInfo is what is known of a node.
type NodeInfo struct {
	// ID is unlike that of any other start of any node. Name is what its config calls it, Address where it listens.
	ID, Name, Address, Version string
	// Started is when, by the clock of the node that was asked.
	Started time.Time
	// Silent is how long ago it gave its last sign of life.
	Silent   time.Duration
	Sessions int
	// Draining: it takes no new viewers, as it is about to stop. Alive: it gave a sign of life lately. Self: it is the node
	// that was asked.
	Draining, Alive, Self bool
}

// wireNode is what a node says of itself.
type wireNode struct {
	Name     string `json:"name"`
	Address  string `json:"address,omitempty"`
	Version  string `json:"version,omitempty"`
	Up       int64  `json:"up"` // for how long, in ms
	Sessions int    `json:"sessions"`
	Draining bool   `json:"draining,omitempty"`
}

// pulse is what a sign of life brings back: what this node may have to catch up with.
type pulse struct {
	ms    int64 // Redis' clock
	live  int
	epoch string
	last  place // the newest revocation
	bans  place // the version of the bans
}

// registry makes this node known to the others, and knows them. It is safe for concurrent use.
type registry struct {
	wire    *wire
	clock   *redisClock
	id      string
	started time.Time
	self    func() wireNode
	keep    time.Duration

	live  atomic.Int64
	beats atomic.Uint64
	// heard is the newest beat of our own that came back over the subscription.
	heard atomic.Uint64

	mu     sync.Mutex
	others []string // names, as they were listed last
}

// beat gives a sign of life.
func (r *registry) beat(ctx context.Context) (pulse, error) {
	info := r.self()
	info.Up = time.Since(r.started).Milliseconds()
	return r.pulse(ctx, string(marshal(info)), r.beats.Add(1))
}

// leave takes this node off the list.
func (r *registry) leave(ctx context.Context) error {
	_, err := r.pulse(ctx, "", 0)
	return err
}

func (r *registry) pulse(ctx context.Context, info string, beat uint64) (pulse, error) {
	asked := time.Now()
	k := r.wire.keys
	// If this node is to begin an epoch, that has a name like no other: a node that began two must not hide the loss of the
	// first one from the others.
	epoch := newName()
	reply, err := r.wire.direct(ctx, r.wire.scripts.pulse, []string{k.common("nodes"), k.common("beats"), k.common("state")},
		r.id, info, aliveFor.Milliseconds(), forgottenAfter.Milliseconds(), r.keep.Milliseconds(), epoch, k.node(r.id), beat)
	if err != nil {
		return pulse{}, err
	}
	fields := list(reply)
	if len(fields) != 5 {
		return pulse{}, fmt.Errorf("BUG: pulse.lua answers with %d fields", len(fields))
	}
	p := pulse{ms: number(fields[0]), live: int(number(fields[1])), epoch: text(fields[2])}
	p.last, _ = parsePlace(text(fields[3]))
	p.bans, _ = parsePlace(text(fields[4]))
	r.clock.set(p.ms, asked)
	r.live.Store(int64(max(1, p.live)))
	return p, nil
}

// deaf reports whether none of the last beats came back over the subscription.
func (r *registry) deaf() bool { return r.beats.Load() > r.heard.Load()+2 }

// ask lists the nodes, and asks those that live a question, if there is one. It returns also the ids of those.
func (r *registry) ask(ctx context.Context, question string) ([]NodeInfo, error) {
	k := r.wire.keys
	reply, err := r.wire.call(ctx, r.wire.scripts.nodes, []string{k.common("nodes"), k.common("beats")},
		k.node(""), question, aliveFor.Milliseconds(), r.id)
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	now := time.Now()
	var found []NodeInfo
	for _, entry := range list(reply) {
		e := append(list(entry), nil, nil, nil)
		var w wireNode
		if json.Unmarshal([]byte(text(e[1])), &w) != nil {
			continue
		}
		silent := time.Duration(max(0, number(e[2]))) * time.Millisecond
		found = append(found, NodeInfo{
			ID: text(e[0]), Name: w.Name, Address: w.Address, Version: w.Version,
			Started: now.Add(-silent - time.Duration(w.Up)*time.Millisecond), Silent: silent,
			Sessions: w.Sessions, Draining: w.Draining, Alive: silent < aliveFor, Self: text(e[0]) == r.id,
		})
	}
	slices.SortFunc(found, func(a, b NodeInfo) int { return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID) })
	r.note(found)
	return found, nil
}

// note remembers whom there was to ask, so that they can be named when they cannot be asked.
func (r *registry) note(found []NodeInfo) {
	var others []string
	for _, n := range found {
		if n.Alive && !n.Self {
			others = append(others, n.Name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others = others
}

func (r *registry) lastOthers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.others)
}

// knows reports whether so many nodes that live are those that were listed last.
func (r *registry) knows(live int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return live == len(r.others)+1
}
