package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// banAnn bans Ann on a node and refuses her session, which only that node knows as hers.
func banAnn(t *testing.T, p *peer, id backends.SessionID) session.Ban {
	t.Helper()
	ban, err := p.Ban(t.Context(), session.Ban{User: "Ann", Until: time.Now().Add(time.Hour), Reason: "unpaid"})
	if err != nil && !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Fatal(err)
	}
	if _, isBanned := p.Banned(&backends.Request{Session: id}, &backends.Decision{User: "Ann"}); !isBanned {
		t.Fatal("Ann is not banned")
	}
	return ban
}

// isRefused reports whether a node refuses a session of which it knows nothing but the id.
func (p *peer) isRefused(id backends.SessionID) bool {
	ban, isBanned := p.Banned(&backends.Request{Session: id}, nil)
	return isBanned && ban.Reason == "unpaid"
}

func wantRefused(t *testing.T, id backends.SessionID, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" refuses a session by its id", func() bool { return p.isRefused(id) })
	}
}

// TestNode_Ban_TombstonesSurvive has one node refuse a banned user's session, and all nodes refuse it by its id alone, whatever
// becomes of Redis.
func TestNode_Ban_TombstonesSurvive(t *testing.T) {
	t.Parallel()
	for name, loss := range map[string]func(t *testing.T, s *redistest.Server, ban func()){
		"no loss": func(_ *testing.T, _ *redistest.Server, ban func()) { ban() },
		"flushed after the ban": func(t *testing.T, s *redistest.Server, ban func()) {
			ban()
			must(t, s.Client.FlushAll(t.Context()).Err())
		},
		"frozen meanwhile": func(_ *testing.T, s *redistest.Server, ban func()) {
			s.Signal(syscall.SIGSTOP)
			ban()
			s.Signal(syscall.SIGCONT)
		},
		"frozen meanwhile, then flushed": func(t *testing.T, s *redistest.Server, ban func()) {
			s.Signal(syscall.SIGSTOP)
			ban()
			s.Signal(syscall.SIGCONT)
			redistest.Eventually(t, "redis answers", func() bool { return s.Client.FlushAll(t.Context()).Err() == nil })
		},
		"its writes failed": func(t *testing.T, s *redistest.Server, ban func()) {
			must(t, s.Client.ConfigSet(t.Context(), "maxmemory", "1").Err())
			ban()
			must(t, s.Client.ConfigSet(t.Context(), "maxmemory", "0").Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, peers := startPeers(t, 2)
			id, ban := idOf(1), session.Ban{}
			loss(t, server, func() { ban = banAnn(t, peers[0], id) })
			wantRefused(t, id, peers...)
			fresh, _ := startPeer(t, testConfig(server), "fresh", nil)
			wantRefused(t, id, fresh)
			must(t, server.Client.FlushAll(t.Context()).Err())
			other, _ := startPeer(t, testConfig(server), "other", nil)
			wantRefused(t, id, other)
			redistest.Eventually(t, "the ban is Ann's alone", func() bool { // the session's tombstone may come first
				bans := other.Bans()
				return len(bans) == 1 && bans[0].ID == ban.ID
			})
			unban(t, fresh.Node, ban.ID)
			for _, p := range append(peers, fresh, other) {
				redistest.Eventually(t, p.Name()+" admits the session again", func() bool { return !p.isRefused(id) && len(p.Bans()) == 0 })
			}
			redistest.Eventually(t, "redis has no ban", func() bool {
				return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == 0
			})
		})
	}
}

// TestNode_Ban_ManyTombstones has one ban refuse more sessions than a page holds, and more than are remembered.
func TestNode_Ban_ManyTombstones(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	const count, most = 12_000, 10_000
	for i := range count {
		banned := &backends.Request{Session: backends.SessionID{byte(i), byte(i >> 8), 1}}
		if i == 0 {
			banAnn(t, peers[0], banned.Session)
		}
		peers[0].Banned(banned, &backends.Decision{User: "Ann"})
	}
	redistest.Eventually(t, "the warning", func() bool { return peers[0].log.Count("more sessions than are remembered") == 1 })
	refused := func(p *peer) (n int) {
		for i := range count {
			if p.isRefused(backends.SessionID{byte(i), byte(i >> 8), 1}) {
				n++
			}
		}
		return n
	}
	redistest.Eventually(t, "the other node has them", func() bool { return refused(peers[1]) == most })
	must(t, server.Client.FlushAll(t.Context()).Err())
	redistest.Eventually(t, "redis has them again", func() bool {
		return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == most+1
	})
	fresh, _ := startPeer(t, testConfig(server), "fresh", nil)
	redistest.Eventually(t, "a new node has them", func() bool { return refused(fresh) == most })
}

// TestNode_Ban_NoTombstone: what names an address or a session itself needs none.
func TestNode_Ban_NoTombstone(t *testing.T) {
	t.Parallel()
	r := &backends.Request{Session: idOf(1), Address: prefix("192.0.2.7/32").Addr()}
	for name, ban := range map[string]session.Ban{
		"an address": {Prefix: prefix("192.0.2.0/24")}, "a session": {Session: idOf(1)},
	} {
		n := newSingleNode(t, ban)
		if _, isBanned := n.Banned(r, nil); !isBanned {
			t.Errorf("%s: not banned", name)
		}
		if left := n.bans.Tombstones(n.Bans()[0].ID); len(left) > 0 {
			t.Errorf("%s: %+v", name, left)
		}
	}
}

// TestNode_Ban_TombstoneEnds: a tombstone is not kept for longer than a ticket admits, nor for longer than its ban.
func TestNode_Ban_TombstoneEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ ban, want time.Duration }{
		"a short ban": {time.Minute, time.Minute}, "a long ban": {1000 * time.Hour, reviveFor},
	} {
		n := newSingleNode(t, session.Ban{User: "Ann", Until: time.Now().Add(test.ban)})
		n.Banned(&backends.Request{Session: idOf(1)}, &backends.Decision{User: "Ann"})
		left := n.bans.Tombstones(n.Bans()[0].ID)
		if len(left) != 1 || (time.Until(left[0].Until)-test.want).Abs() > redistest.Timeout {
			t.Errorf("%s: %+v, want one for %v", name, left, test.want)
		}
	}
}

// TestNode_AwaitBans_AfterLoss: after a flush a node knows all bans again once all nodes have written theirs.
func TestNode_AwaitBans_AfterLoss(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 3)
	for _, p := range peers {
		must(t, p.AwaitBans(t.Context()))
	}
	server.Signal(syscall.SIGSTOP)
	var banned []backends.SessionID
	for i, p := range peers {
		banAnn(t, p, idOf(i))
		banned = append(banned, idOf(i))
	}
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "redis answers", func() bool { return server.Client.FlushAll(t.Context()).Err() == nil })
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" knows the bans", func() bool { return p.AwaitBans(t.Context()) == nil })
		for _, id := range banned {
			if !p.isRefused(id) {
				t.Errorf("%s knows all bans, and does not refuse %s", p.Name(), id)
			}
		}
	}
}

// TestNode_AwaitBans_SilentNode: a node that lives and has not written its part is waited for.
func TestNode_AwaitBans_SilentNode(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 1)
	must(t, peers[0].AwaitBans(t.Context()))
	_, err := server.Client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.FlushAll(t.Context())
		p.HSet(t.Context(), "usher:{all}:nodes", "slow", `{"name":"slow"}`)
		p.Do(t.Context(), "ZADD", "usher:{all}:heartbeats", float64(time.Now().UnixMilli()), "slow")
		return nil
	})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := peers[0].AwaitBans(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the other node has written its part: %v", err)
	}
	state, err := server.Client.HGet(t.Context(), "usher:{all}:state", "epoch").Result()
	must(t, err)
	must(t, server.Client.HSet(t.Context(), "usher:{all}:nodes", "slow", fmt.Sprintf(`{"name":"slow","epoch":%q}`, state)).Err())
	must(t, peers[0].AwaitBans(t.Context()))
}

// TestNode_AwaitBans_Unavailable: while Redis is unavailable nothing can be known, and nobody waits.
func TestNode_AwaitBans_Unavailable(t *testing.T) {
	t.Parallel()
	if err := newSingleNode(t).AwaitBans(t.Context()); err != nil {
		t.Errorf("a single node: %v", err)
	}
	server, peers := startPeers(t, 1)
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, peers[0], peers[0].RedisDown)
	if err := peers[0].AwaitBans(t.Context()); !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("in the outage: %v", err)
	}
}

// TestNode_Unban_Unavailable ends a ban while Redis is unavailable. The bans that followed from it are gone from Redis too, also when
// its end is no longer remembered.
func TestNode_Unban_Unavailable(t *testing.T) {
	t.Parallel()
	server, sold := redistest.Start(t), &backends.Request{Query: "token=sold"}
	c := testConfig(server)
	c.RedisTimeout = 100 * time.Millisecond
	p, stop := startPeer(t, c, "a", nil)
	lifted := banAnn(t, p, idOf(1))
	must(t, banCredentials(p.Node, lifted, sold))
	if _, err := p.Ban(t.Context(), session.Ban{User: "Bob", Until: lifted.Until}); err != nil && !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Fatal(err)
	}
	redistest.Eventually(t, "redis has the bans and the tombstone", func() bool {
		return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == 4
	})
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, p, p.RedisDown)
	found, err := p.Unban(t.Context(), lifted.ID)
	server.Signal(syscall.SIGCONT)
	if !found || !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Fatalf("unbanned in the outage: found %t, %v", found, err)
	}
	redistest.Eventually(t, "redis remembers that it was unbanned", func() bool {
		return server.Client.ZScore(t.Context(), "usher:{all}:unbanned", lifted.ID).Err() == nil
	})
	stop()
	if stored := server.Client.HKeys(t.Context(), "usher:{all}:bans").Val(); len(stored) != 1 {
		t.Errorf("redis has the bans %v, want Bob's alone", stored)
	}
	must(t, server.Client.Del(t.Context(), "usher:{all}:unbanned", "usher:{all}:revocations", "usher:{all}:state").Err())
	fresh, _ := startPeer(t, testConfig(server), "fresh", nil)
	must(t, fresh.AwaitBans(t.Context()))
	if bans := fresh.Bans(); len(bans) != 1 || bans[0].User != "Bob" || fresh.refusesCredentials(sold) || fresh.isRefused(idOf(1)) {
		t.Errorf("the bans are %+v, want Bob's alone", bans)
	}
}

// withStateDir has a node keep its bans in a folder.
func withStateDir(dir string) func(*Options) {
	return func(o *Options) { o.Config.StateDir = dir }
}

// TestNode_StateDir_AllLost bans a user, then ends all nodes and empties Redis. The bans, what they refused and what was
// unbanned are known again.
func TestNode_StateDir_AllLost(t *testing.T) {
	t.Parallel()
	server, dir := redistest.Start(t), t.TempDir()
	p, stop := startPeer(t, testConfig(server), "a", withStateDir(dir))
	kept := banAnn(t, p, idOf(1))
	lifted, err := p.Ban(t.Context(), session.Ban{User: "Bob", Until: time.Now().Add(time.Hour)})
	must(t, err)
	unban(t, p.Node, lifted.ID)
	ended, err := p.Ban(t.Context(), session.Ban{User: "Cid", Until: time.Now().Add(50 * time.Millisecond)})
	must(t, err)
	redistest.Eventually(t, "the short one ends", func() bool { return len(p.Bans()) == 1 })
	stop()
	must(t, server.Client.FlushAll(t.Context()).Err())
	again, stop := startPeer(t, testConfig(server), "a", withStateDir(dir))
	if !again.isRefused(idOf(1)) {
		t.Error("the session is not refused after the restart")
	}
	if bans := again.Bans(); len(bans) != 1 || bans[0].ID != kept.ID || bans[0].Reason != "unpaid" || bans[0].Until.Sub(kept.Until).Abs() > time.Second {
		t.Errorf("the bans are %+v, want %+v alone, and not %s", bans, kept, ended.ID)
	}
	other, _ := startPeer(t, testConfig(server), "b", nil)
	wantRefused(t, idOf(1), other)
	if left := again.bans.Add(time.Now(), lifted); len(left) > 0 {
		t.Error("an unbanned one came back")
	}
	unban(t, again.Node, kept.ID)
	stop()
	last, _ := startPeer(t, testConfig(server), "a", withStateDir(dir))
	if last.isRefused(idOf(1)) || len(last.Bans()) > 0 {
		t.Errorf("after the end of the ban: %+v", last.Bans())
	}
}

// TestNode_StateDir_SingleNode restarts a node without Redis.
func TestNode_StateDir_SingleNode(t *testing.T) {
	t.Parallel()
	dir, seller := t.TempDir(), &backends.Request{Query: "token=sold"}
	p, stop := startPeer(t, DefaultConfig(), "alone", withStateDir(dir))
	banAnn(t, p, idOf(1))
	_, err := p.Ban(t.Context(), session.Ban{Credentials: p.Credentials(seller), Until: time.Now().Add(time.Hour)})
	must(t, err)
	if _, err := Open(Options{Config: p.o.Config, ReviveFor: reviveFor, Limits: testRules}); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("a second node with the same folder: %v", err)
	}
	stop()
	again, _ := startPeer(t, DefaultConfig(), "alone", withStateDir(dir))
	if _, isBanned := again.Banned(seller, nil); !isBanned || !again.isRefused(idOf(1)) || len(again.Bans()) != 2 {
		t.Errorf("after the restart the bans are %+v", again.Bans())
	}
}

// TestNode_StateDir_CrashAndDamage takes the file as a crash leaves it, and a file that is none.
func TestNode_StateDir_CrashAndDamage(t *testing.T) {
	t.Parallel()
	dir, crashed := t.TempDir(), t.TempDir()
	p, _ := startPeer(t, DefaultConfig(), "alone", withStateDir(dir))
	banAnn(t, p, idOf(1))
	redistest.Eventually(t, "a copy of the file has the ban", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "bans.db"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(crashed, "bans.db"), text, 0o600))
		n, err := Open(Options{Config: Config{StateDir: crashed, Memory: MemoryConfig{MaxSessions: 10}}, ReviveFor: reviveFor, Limits: testRules})
		must(t, err)
		defer n.Close()
		_, isBanned := n.Banned(&backends.Request{Session: idOf(1)}, nil)
		return isBanned
	})
	must(t, os.WriteFile(filepath.Join(crashed, "bans.db"), []byte(strings.Repeat("no database", 1000)), 0o600))
	_, err := Open(Options{Config: Config{StateDir: crashed, Memory: MemoryConfig{MaxSessions: 10}}, ReviveFor: reviveFor, Limits: testRules})
	if err == nil || !strings.Contains(err.Error(), "cluster.state_dir") {
		t.Errorf("a damaged file: %v", err)
	}
}
