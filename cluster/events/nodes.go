package events

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

const (
	// nodeTTL is for how long a node counts as alive after a heartbeat: a few heartbeats may be lost.
	nodeTTL = 3 * time.Second
	// forgetNodeAfter is when a node without heartbeats is removed from the list: late enough for an operator to see it.
	forgetNodeAfter = time.Minute
)

// NodeStatus is what a node reports about itself.
type NodeStatus struct {
	Name       string `json:"name"`
	Address    string `json:"address,omitempty"`
	Version    string `json:"version,omitempty"`
	UptimeMS   int64  `json:"up"`
	Sessions   int    `json:"sessions"`
	IsDraining bool   `json:"draining,omitempty"`
	// Epoch is the newest epoch in which the node has written its part of the shared state.
	Epoch string `json:"epoch,omitempty"`
}

// heartbeatReply is what a heartbeat returns: what this node may have missed.
type heartbeatReply struct {
	ms             int64    // Redis' clock
	live           []string // the ids of the nodes that are alive
	epoch          string
	epochAge       time.Duration
	lastRevocation streamID
	// forced has each backend with an order on its breaker, and what is stored of it.
	forced []any
}

// listedNode is a node as it is listed, with its [NodeStatus.Epoch].
type listedNode struct {
	session.NodeInfo
	epoch string
}

// nodeRegistry announces this node and lists the others. It is safe for concurrent use.
type nodeRegistry struct {
	client    *redisclient.Client
	clock     *redisclient.Clock
	nodeID    string
	started   time.Time
	status    func() NodeStatus
	retention time.Duration

	heartbeatScript, listScript *redisclient.Script

	liveNodes  atomic.Int64
	heartbeats atomic.Uint64
	// lastEcho is the newest of this node's heartbeats that came back over the subscription. It only grows, and up to heartbeats.
	lastEcho atomic.Uint64

	mu sync.Mutex
	// others are the other live nodes, as they were last listed.
	others []session.NodeInfo
	// writtenEpoch is this node's [NodeStatus.Epoch].
	writtenEpoch string
}

// heartbeat announces this node.
func (r *nodeRegistry) heartbeat(ctx context.Context) (heartbeatReply, error) {
	status := r.status()
	status.UptimeMS = time.Since(r.started).Milliseconds()
	r.mu.Lock()
	status.Epoch = r.writtenEpoch
	r.mu.Unlock()
	reply, err := r.announce(ctx, string(marshal(status)), r.heartbeats.Add(1))
	if err != nil {
		r.noEcho()
	}
	return reply, err
}

// noEcho notes that a heartbeat has failed. That it does not come back says nothing of the subscription's connection.
func (r *nodeRegistry) noEcho() { r.noteEcho(r.lastEcho.Load() + 1) }

// noteEcho notes that the heartbeats up to that number came back, or never will. Redis may run one that has failed later, as after a
// freeze: its echo takes nothing back.
func (r *nodeRegistry) noteEcho(number uint64) {
	number = min(number, r.heartbeats.Load())
	for last := r.lastEcho.Load(); last < number && !r.lastEcho.CompareAndSwap(last, number); {
		last = r.lastEcho.Load()
	}
}

// leave removes this node from the list.
func (r *nodeRegistry) leave(ctx context.Context) error {
	_, err := r.announce(ctx, "", 0)
	return err
}

func (r *nodeRegistry) announce(ctx context.Context, status string, number uint64) (heartbeatReply, error) {
	sentAt, k := time.Now(), r.client.Keys()
	// If this node begins an epoch, the epoch's name is new each time: a node that began two epochs must not hide the loss
	// of the first one from the others.
	epoch := NewID()
	reply, err := r.client.RunDirect(ctx, r.heartbeatScript,
		[]string{k.Shared("nodes"), k.Shared("heartbeats"), k.Shared("state"), k.Shared("forced")},
		r.nodeID, status, nodeTTL.Milliseconds(), forgetNodeAfter.Milliseconds(), r.retention.Milliseconds(), epoch,
		k.NodeChannel(r.nodeID), number)
	if err != nil {
		return heartbeatReply{}, err
	}
	fields := redisclient.List(reply)
	if len(fields) != 6 {
		return heartbeatReply{}, fmt.Errorf("BUG: script node_heartbeat returned %d fields", len(fields))
	}
	h := heartbeatReply{ms: redisclient.Int(fields[0]), epoch: redisclient.Text(fields[2])}
	for _, id := range redisclient.List(fields[1]) {
		h.live = append(h.live, redisclient.Text(id))
	}
	h.lastRevocation, _ = parseStreamID(redisclient.Text(fields[3]))
	h.epochAge = redisclient.Duration(redisclient.Int(fields[4]))
	h.forced = redisclient.List(fields[5])
	r.clock.Set(h.ms, sentAt)
	r.liveNodes.Store(int64(max(1, len(h.live))))
	return h, nil
}

// missesEchoes reports whether none of the last heartbeats came back over the subscription.
func (r *nodeRegistry) missesEchoes() bool { return r.heartbeats.Load() > r.lastEcho.Load()+2 }

// setWritten notes that this node has written its part of the shared state in the epoch. It reports whether that is new.
func (r *nodeRegistry) setWritten(epoch string) (isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	isNew, r.writtenEpoch = r.writtenEpoch != epoch, epoch
	return isNew
}

// list lists the nodes, and sends a message to the other live ones unless it is empty.
func (r *nodeRegistry) list(ctx context.Context, run runScript, message string) ([]listedNode, error) {
	k := r.client.Keys()
	reply, err := run(ctx, r.listScript, []string{k.Shared("nodes"), k.Shared("heartbeats")},
		k.NodeChannel(""), message, nodeTTL.Milliseconds(), r.nodeID)
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	now := time.Now().UTC()
	var nodes []listedNode
	for _, entry := range redisclient.List(reply) {
		if n, isReadable := parseNode(entry, now); isReadable {
			n.IsSelf = n.ID == r.nodeID
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b listedNode) int { return compareNodes(a.NodeInfo, b.NodeInfo) })
	r.setOthers(nodes)
	return nodes, nil
}

// parseNode reads one node of the reply of list_nodes.lua.
func parseNode(entry any, now time.Time) (n listedNode, isReadable bool) {
	e := append(redisclient.List(entry), nil, nil, nil)
	var s NodeStatus
	if json.Unmarshal([]byte(redisclient.Text(e[1])), &s) != nil {
		return listedNode{}, false
	}
	since := redisclient.Duration(max(0, redisclient.Int(e[2])))
	uptime := redisclient.Duration(max(0, s.UptimeMS))
	return listedNode{epoch: s.Epoch, NodeInfo: session.NodeInfo{
		ID: redisclient.Text(e[0]), Name: s.Name, Address: s.Address, Version: s.Version,
		Started:  now.Add(-since - uptime).Truncate(time.Second),
		LastSeen: now.Add(-since), Sessions: max(0, s.Sessions), IsDraining: s.IsDraining, IsAlive: since < nodeTTL,
	}}, true
}

func compareNodes(a, b session.NodeInfo) int {
	return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID)
}

// setOthers remembers the other live nodes, so that they can be named when they cannot be listed.
func (r *nodeRegistry) setOthers(nodes []listedNode) {
	var others []session.NodeInfo
	for _, n := range nodes {
		if n.IsAlive && !n.IsSelf {
			others = append(others, n.NodeInfo)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others = others
}

// lastOthers returns the ids and names of the other live nodes, as they were last listed.
func (r *nodeRegistry) lastOthers() (ids, names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.others {
		ids, names = append(ids, n.ID), append(names, n.Name)
	}
	return ids, names
}

// lastSeen returns this node and the others that lived when it last reached Redis.
func (r *nodeRegistry) lastSeen() []session.NodeInfo {
	now, s := time.Now().UTC(), r.status()
	r.mu.Lock()
	defer r.mu.Unlock()
	nodes := append(slices.Clone(r.others), session.NodeInfo{
		ID: r.nodeID, Name: s.Name, Address: s.Address, Version: s.Version, Started: r.started.UTC().Truncate(time.Second),
		LastSeen: now, Sessions: s.Sessions, IsDraining: s.IsDraining, IsSelf: true,
	})
	for i := range nodes {
		nodes[i].IsAlive = now.Sub(nodes[i].LastSeen) < nodeTTL
	}
	slices.SortFunc(nodes, compareNodes)
	return nodes
}

// confirmOthers reports whether the nodes with these ids are this one and the others of the last list. Then those still live.
func (r *nodeRegistry) confirmOthers(live []string) (isCurrent bool) {
	now := time.Now().UTC()
	r.mu.Lock()
	defer r.mu.Unlock()
	known := []string{r.nodeID}
	for _, n := range r.others {
		known = append(known, n.ID)
	}
	slices.Sort(known)
	if isCurrent = slices.Equal(slices.Sorted(slices.Values(live)), known); isCurrent {
		for i := range r.others {
			r.others[i].LastSeen = now
		}
	}
	return isCurrent
}
