package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kickRig is three nodes with sessions of one channel, each opened on one node.
type kickRig struct {
	*cluster
	redis *redisServer
	on    map[*clusterNode][]openedSession
}

func startKickRig(t *testing.T, each int) *kickRig {
	t.Helper()
	r := startRedis(t)
	k := &kickRig{redis: r, on: map[*clusterNode][]openedSession{}}
	k.cluster = startCluster(t, 3, clusterSetup{
		origin: startWideStage(t, ""), redis: r.standalone(), binary: plainBinary(t), idle: time.Hour, sessions: "denial_ttl: 1s",
	})
	for _, m := range k.nodes {
		for i := range each {
			w, err := m.open(fmt.Sprintf("good-kick-%s-%d", m.name, i), "a001")
			if err != nil {
				t.Fatal(err)
			}
			k.on[m] = append(k.on[m], w)
		}
	}
	eventually(t, waitTimeout, "the first node knows all", func() error {
		printed, err := k.nodes[0].command("kick", "--channel", "a001", "--dry-run")
		if want := fmt.Sprintf("hits %d sessions from 1 address\n", 3*each); err == nil && printed != want {
			err = fmt.Errorf("it prints %q, want %q", printed, want)
		}
		return err
	})
	return k
}

// kick kicks the channel by the command through the first node, and returns what it prints.
func (k *kickRig) kick() (printed string, err error) {
	return k.nodes[0].command("kick", "--channel", "a001", "--yes", "--reason", "rights")
}

// wantRefused waits until nodes refuse the tickets and the tokens of the sessions that were opened on one.
func (k *kickRig) wantRefused(t *testing.T, opened *clusterNode, by ...*clusterNode) {
	t.Helper()
	for _, m := range by {
		for _, w := range k.on[opened] {
			for _, path := range []string{w.segment, "/play/a001/low.m3u8?token=" + w.token} {
				eventually(t, waitTimeout, m.name+" refuses "+w.token, func() error { return refuses(m, path) })
			}
		}
	}
}

// TestCluster_KickChannel_NodeFrozen names the frozen node, and kicks what the others hold. The frozen one refuses that too
// once it goes on.
func TestCluster_KickChannel_NodeFrozen(t *testing.T) {
	t.Parallel()
	k := startKickRig(t, 8)
	frozen := k.nodes[2]
	frozen.signal(syscall.SIGSTOP)
	printed, err := k.kick()
	if err == nil || !strings.Contains(err.Error(), "exit status 2: ") || !strings.Contains(err.Error(), "only "+frozen.name+" hold") {
		t.Errorf("the command: %v", err)
	}
	if !strings.Contains(printed, "kicked 16 of 16 sessions, refused for a while (unban ") || !strings.Contains(printed, "\n"+frozen.name+" ") {
		t.Errorf("the command prints:\n%s", printed)
	}
	for _, opened := range k.nodes[:2] {
		k.wantRefused(t, opened, k.nodes[:2]...)
	}
	frozen.signal(syscall.SIGCONT)
	for _, opened := range k.nodes[:2] {
		k.wantRefused(t, opened, frozen)
	}
	if _, err := k.kick(); err != nil {
		t.Errorf("the command when the node is back: %v", err)
	}
	for _, opened := range k.nodes {
		k.wantRefused(t, opened, k.nodes...)
	}
}

// TestCluster_KickChannel_RedisFrozen kicks what the node holds, names the others, and has these refuse it after the outage.
func TestCluster_KickChannel_RedisFrozen(t *testing.T) {
	t.Parallel()
	k := startKickRig(t, 8)
	k.redis.signal(syscall.SIGSTOP)
	awaitRedisDown(t, k.nodes, true)
	printed, err := k.kick()
	if err == nil || !strings.Contains(err.Error(), "exit status 2: ") || !strings.Contains(err.Error(), "only n2, n3 hold") ||
		!strings.Contains(err.Error(), "on the others once redis has recovered") {
		t.Errorf("the command: %v", err)
	}
	if !strings.Contains(printed, "kicked 8 of 8 sessions") || strings.Count(printed, "redis unavailable") != 2 {
		t.Errorf("the command prints:\n%s", printed)
	}
	k.wantRefused(t, k.nodes[0], k.nodes[0])
	k.redis.signal(syscall.SIGCONT)
	k.wantRefused(t, k.nodes[0], k.nodes...)
	awaitRedisDown(t, k.nodes, false)
	for _, m := range k.nodes[1:] {
		for _, w := range k.on[m] {
			if status, err := m.serves(w); err != nil || status != 200 {
				t.Errorf("%s of %s was kicked though it was not reached: %d, %v", w.token, m.name, status, err)
			}
		}
	}
}
