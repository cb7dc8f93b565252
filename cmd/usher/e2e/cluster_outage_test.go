package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestCluster_RedisUnavailable_ViewersContinue stops, freezes and flushes Redis while viewers play and new ones come.
func TestCluster_RedisUnavailable_ViewersContinue(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, c *cluster, r *redisServer){
		"stopped": func(t *testing.T, c *cluster, r *redisServer) {
			r.signal(syscall.SIGTERM)
			r.wait(t)
			awaitRedisDown(t, c.nodes, true)
			c.openDuringOutage(t, *outageFor)
			r.start(t)
		},
		"frozen": func(t *testing.T, c *cluster, r *redisServer) {
			r.signal(syscall.SIGSTOP)
			awaitRedisDown(t, c.nodes, true)
			c.openDuringOutage(t, *outageFor)
			r.signal(syscall.SIGCONT)
		},
		"flushed": func(t *testing.T, c *cluster, r *redisServer) {
			r.do(t, "FLUSHALL")
			c.openDuringOutage(t, 10*time.Second)
		},
	}
	for name, takeDown := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			c := startCluster(t, 3, clusterSetup{
				redis: r.standalone(), binary: plainBinary(t), deadline: 100 * time.Millisecond,
				backend: "validity: 12s", sessions: "recheck: { min: 10s }",
			})
			viewers, _ := c.watch(t, 30)
			awaitSegments(t, viewers, 4)
			before := c.middleware.Calls()
			if _, err := c.nodes[0].ban("good-banned-early"); err != nil {
				t.Fatal(err)
			}
			takeDown(t, c, r)
			returned := time.Now()
			awaitRedisDown(t, c.nodes, false)
			t.Logf("cluster: Redis %s: recovered on every node after %s; %d calls of the middleware meanwhile, %d before",
				name, time.Since(returned).Round(time.Millisecond), c.middleware.Calls()-before, before)
			c.wantBanned(t, "good-banned-early", "good-banned-meanwhile")
			awaitSegments(t, viewers, 3)
			c.wantUndisturbed(t, viewers) // it logs the slowest request; package cluster tests redis_timeout
		})
	}
}

// openDuringOutage opens a session every second for that time, fetches one segment in each, and bans a user meanwhile.
func (c *cluster) openDuringOutage(t *testing.T, d time.Duration) {
	t.Helper()
	if _, err := c.nodes[0].ban("good-banned-meanwhile"); err != nil {
		t.Errorf("a ban while Redis is unavailable: %v", err)
	}
	var watching sync.WaitGroup
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	number := 1000
	for end := time.Now().Add(d); time.Now().Before(end); number++ {
		<-tick.C
		v := c.viewer(t, number, fmt.Sprintf("/play/a001/low.m3u8?token=good-late-%d", number))
		watching.Go(func() {
			if media, err := v.load(t.Context()); err != nil {
				t.Errorf("a new viewer's playlist: %v", err)
			} else if _, err := v.get(t.Context(), media.list[len(media.list)-1]); err != nil {
				t.Errorf("a new viewer's segment: %v", err)
			}
			v.client.CloseIdleConnections()
		})
	}
	watching.Wait()
}

// wantBanned requires every node to refuse these users, also a node that starts now and reads the bans from Redis.
func (c *cluster) wantBanned(t *testing.T, users ...string) {
	t.Helper()
	nodes := c.nodes
	if c.setup.redis != "" {
		nodes = append(slices.Clip(nodes), startClusterNode(t, c.setup, "fresh"))
	}
	for _, m := range nodes {
		for _, user := range users {
			eventually(t, waitTimeout, m.name+" refuses "+user, func() error {
				address := m.public + "/play/a003/low.m3u8?token=" + user
				status, _, err := fetch(m.client, address)
				if err == nil && status != http.StatusForbidden {
					err = fmt.Errorf("status %d", status)
				}
				return err
			})
		}
	}
}

// TestCluster_RedisMasterLost_ViewersContinue kills the master that holds the bans, with Sentinels and in a Redis Cluster.
func TestCluster_RedisMasterLost_ViewersContinue(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T) (section string, master, replica *redisServer){
		"by Sentinel": func(t *testing.T) (string, *redisServer, *redisServer) {
			w := startSentinels(t)
			return w.section(), w.master, w.replica
		},
		"in a Redis Cluster": func(t *testing.T) (string, *redisServer, *redisServer) {
			servers := startRedisCluster(t)
			master, replica := replicationPair(t, servers, "usher:{all}:bans")
			return fmt.Sprintf("addresses: [ %s ], cluster: true", quoted(servers)), master, replica
		},
	}
	for name, begin := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			section, master, replica := begin(t)
			c := startCluster(t, 3, clusterSetup{
				redis: section, binary: plainBinary(t), backend: "validity: 12s", sessions: "recheck: { min: 10s }",
			})
			viewers, _ := c.watch(t, 50)
			awaitSegments(t, viewers, 4)
			if _, err := c.nodes[0].ban("good-banned-early"); err != nil {
				t.Fatal(err)
			}
			loseMaster(t, master, replica, func() {
				if _, err := c.nodes[0].ban("good-banned-last"); err != nil {
					t.Error(err)
				}
			})
			lost := time.Now()
			eventually(t, waitTimeout, "the replica is master", func() error {
				if role, err := replica.try("ROLE"); err != nil || role[:6] != "master" {
					return fmt.Errorf("%s, %w", role, err)
				}
				return nil
			})
			promoted := time.Since(lost)
			c.awaitRecovery(t)
			t.Logf("cluster: a master lost %s: a replica was promoted after %s, every node used it after %s",
				name, promoted.Round(time.Millisecond), time.Since(lost).Round(time.Millisecond))
			c.wantBanned(t, "good-banned-early", "good-banned-last")
			awaitSegments(t, viewers, 3)
			c.wantUndisturbed(t, viewers)
		})
	}
}

// awaitRecovery waits until every node reaches Redis and lists all nodes as alive.
func (c *cluster) awaitRecovery(t *testing.T) {
	t.Helper()
	awaitRedisDown(t, c.nodes, false)
	for _, m := range c.nodes {
		eventually(t, waitTimeout, m.name+" sees all nodes", func() error {
			var list struct {
				Nodes []struct {
					Name  string
					Alive bool
				}
			}
			if err := m.call(http.MethodGet, "nodes", nil, &list); err != nil {
				return err
			}
			alive := 0
			for _, n := range list.Nodes {
				if n.Alive {
					alive++
				}
			}
			if alive != len(c.nodes) {
				return fmt.Errorf("%d alive: %+v", alive, list.Nodes)
			}
			return nil
		})
	}
}
