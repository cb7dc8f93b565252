package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	ports "usher/bench/process"
)

// redisServer is a redis-server or a Sentinel.
type redisServer struct {
	*process
	address string
	path    string
	args    []string
}

// startRedis runs a redis-server that saves its data in a temporary folder when it stops gracefully. args are further
// options, for example "--bind", "10.0.0.1".
func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	address := freeClusterPort(t)
	r := &redisServer{address: address, path: tool(t, "redis-server", "redis-server")}
	r.args = append([]string{
		"--port", port(address), "--bind", "127.0.0.1", "--save", "3600 1", "--appendonly", "no", "--dir", t.TempDir(),
	}, args...)
	r.start(t)
	return r
}

// start starts or restarts the server, and waits until it answers.
func (r *redisServer) start(t *testing.T) {
	t.Helper()
	r.process = start(t, r.path, r.args...)
	eventually(t, waitTimeout, "redis-server answers", func() error {
		if r.ended() {
			t.Fatalf("redis-server ended by itself:\n%s", r.out)
		}
		if answer, err := r.try("PING"); err != nil || answer != "PONG" {
			return fmt.Errorf("%q, %w", answer, err)
		}
		return nil
	})
}

// try sends a command, and returns the reply without its last line feed.
func (r *redisServer) try(command ...string) (string, error) {
	host, number, _ := net.SplitHostPort(r.address)
	out, err := exec.Command("redis-cli", append([]string{"-h", host, "-p", number, "--raw"}, command...)...).CombinedOutput()
	answer := strings.TrimSpace(string(out))
	if err != nil {
		return answer, fmt.Errorf("redis-cli %s: %w: %s", strings.Join(command, " "), err, answer)
	}
	return answer, nil
}

// do sends a command that must succeed, and returns the reply.
func (r *redisServer) do(t *testing.T, command ...string) string {
	t.Helper()
	answer, err := r.try(command...)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// standalone returns the section cluster.redis of nodes that share this server.
func (r *redisServer) standalone() string { return fmt.Sprintf("addresses: [ %q ]", r.address) }

// port returns the port of an address.
func port(address string) string {
	_, number, _ := net.SplitHostPort(address)
	return number
}

// The ports that freeClusterPort draws from, and how far above one the bus of a Redis Cluster's node listens. Both are below the range from
// which freePort and outgoing connections have theirs.
const lowestClusterPort, clusterPorts, clusterBus = 18_000, 4500, 10_000

// freeClusterPort returns an address of 127.0.0.1 whose port, and that of the bus, are the test's to its end.
func freeClusterPort(t *testing.T) string {
	t.Helper()
	for range 100 {
		number := lowestClusterPort + rand.IntN(clusterPorts)
		p, err := ports.ReservePortNumber(number)
		if err != nil {
			continue
		}
		t.Cleanup(p.Release)
		bus, err := ports.ReservePortNumber(number + clusterBus)
		if err != nil {
			continue
		}
		t.Cleanup(bus.Release)
		return p.Address
	}
	t.Fatalf("no free port from %d to %d", lowestClusterPort, lowestClusterPort+clusterPorts-1)
	return ""
}

// sentinelSetup is a master, its replica and their Sentinels.
type sentinelSetup struct {
	master, replica *redisServer
	sentinels       []*redisServer
}

// sentinelMaster is the Sentinels' name for the master.
const sentinelMaster = "usher"

// startSentinels runs one master, one replica and three Sentinels, and waits until each Sentinel knows the others and the
// replica.
func startSentinels(t *testing.T) *sentinelSetup {
	t.Helper()
	w := &sentinelSetup{master: startRedis(t)}
	w.replica = startRedis(t, "--replicaof", "127.0.0.1 "+port(w.master.address))
	for range 3 {
		w.sentinels = append(w.sentinels, startSentinel(t, w.master.address))
	}
	for _, s := range w.sentinels {
		eventually(t, waitTimeout, "the Sentinels know one another", func() error {
			facts := readPairs(s.do(t, "SENTINEL", "MASTER", sentinelMaster))
			if facts["num-other-sentinels"] != "2" || facts["num-slaves"] != "1" || facts["flags"] != "master" {
				return fmt.Errorf("%v", facts)
			}
			replica := readPairs(s.do(t, "SENTINEL", "REPLICAS", sentinelMaster))
			if replica["master-link-status"] != "ok" {
				return fmt.Errorf("the replica: %v", replica)
			}
			return nil
		})
	}
	return w
}

// startSentinel runs one Sentinel. It soon takes a master for down: a loaded machine does no harm, because two of three
// Sentinels must agree.
func startSentinel(t *testing.T, master string) *redisServer {
	t.Helper()
	address, folder := freeClusterPort(t), t.TempDir()
	file := filepath.Join(folder, "sentinel.conf") // Sentinels rewrite it
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %[3]s 127.0.0.1 %[4]s 2\n"+
		"sentinel down-after-milliseconds %[3]s 1500\nsentinel failover-timeout %[3]s 6000\n",
		port(address), folder, sentinelMaster, port(master))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &redisServer{address: address, path: tool(t, "redis-server", "redis-server"), args: []string{file, "--sentinel"}}
	s.start(t)
	return s
}

// section returns the section cluster.redis of nodes that use the Sentinels.
func (w *sentinelSetup) section() string {
	return fmt.Sprintf("addresses: [ %s ], sentinel_master: %s", quoted(w.sentinels), sentinelMaster)
}

// loseMaster freezes the replica, calls write, kills the master and resumes the replica. So the writes are lost, as
// asynchronous replication permits.
func loseMaster(t *testing.T, master, replica *redisServer, write func()) {
	t.Helper()
	replica.signal(syscall.SIGSTOP)
	write()
	master.signal(syscall.SIGKILL)
	master.wait(t)
	replica.signal(syscall.SIGCONT)
}

// startRedisCluster runs three masters with a replica each, and waits until all slots are served.
func startRedisCluster(t *testing.T) []*redisServer {
	t.Helper()
	var servers []*redisServer
	for range 6 {
		servers = append(servers, startRedis(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "2000", "--repl-ping-replica-period", "1"))
	}
	args := []string{"--cluster", "create"}
	for _, s := range servers {
		args = append(args, s.address)
	}
	if code, out, errs := runToEnd(t, tool(t, "redis-cli", "redis-tools"), append(args, "--cluster-replicas", "1", "--cluster-yes")...); code != 0 {
		t.Fatalf("create the Redis Cluster: %d\n%s%s", code, out, errs)
	}
	for _, s := range servers {
		eventually(t, waitTimeout, "the Redis Cluster is whole", func() error {
			info := s.do(t, "CLUSTER", "INFO")
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
				return fmt.Errorf("%s", info)
			}
			if role := s.do(t, "ROLE"); strings.HasPrefix(role, "slave") && !strings.Contains(role, "connected") {
				return fmt.Errorf("a replica: %s", role)
			}
			return nil
		})
	}
	return servers
}

// replicationPair returns the master and the replica that hold a key.
func replicationPair(t *testing.T, servers []*redisServer, key string) (master, replica *redisServer) {
	t.Helper()
	byPort := map[string]*redisServer{}
	for _, s := range servers {
		byPort[port(s.address)] = s
	}
	slot, err := strconv.Atoi(servers[0].do(t, "CLUSTER", "KEYSLOT", key))
	if err != nil {
		t.Fatal(err)
	}
	masters := map[string]*redisServer{} // by their ids
	var id string
	nodes := strings.Split(servers[0].do(t, "CLUSTER", "NODES"), "\n")
	for _, line := range nodes {
		fields := strings.Fields(line)
		host, _, _ := strings.Cut(fields[1], "@")
		if !strings.Contains(fields[2], "master") {
			continue
		}
		masters[fields[0]] = byPort[port(host)]
		for _, slots := range fields[8:] {
			first, last, _ := strings.Cut(slots, "-")
			from, _ := strconv.Atoi(first)
			to, _ := strconv.Atoi(last)
			if from <= slot && slot <= to {
				id, master = fields[0], masters[fields[0]]
			}
		}
	}
	for _, line := range nodes {
		fields := strings.Fields(line)
		if host, _, _ := strings.Cut(fields[1], "@"); fields[3] == id {
			replica = byPort[port(host)]
		}
	}
	if master == nil || replica == nil {
		t.Fatalf("no master and replica hold %s, slot %d:\n%s", key, slot, strings.Join(nodes, "\n"))
	}
	return master, replica
}

// readPairs parses a reply of names and values, one a line.
func readPairs(answer string) map[string]string {
	lines, read := strings.Split(answer, "\n"), map[string]string{}
	for i := 0; i+1 < len(lines); i += 2 {
		read[lines[i]] = lines[i+1]
	}
	return read
}

// quoted lists the servers' addresses as YAML in flow style.
func quoted(servers []*redisServer) string {
	var list []string
	for _, s := range servers {
		list = append(list, strconv.Quote(s.address))
	}
	return strings.Join(list, ", ")
}
