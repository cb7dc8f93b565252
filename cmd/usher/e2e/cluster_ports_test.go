package e2e

import (
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	ports "usher/bench/process"
)

// TestCluster_RedisPort_IsKept has the port, and that of the bus, while no server listens there: nobody else gets them meanwhile.
func TestCluster_RedisPort_IsKept(t *testing.T) {
	t.Parallel()
	number := int(netip.MustParseAddrPort(freeClusterPort(t)).Port())
	for _, number := range []int{number, number + clusterBus} {
		if other, err := ports.ReservePortNumber(number); !errors.Is(err, syscall.EADDRINUSE) {
			other.Release()
			t.Errorf("port %d: %v, want that it is taken", number, err)
		}
	}
}

// TestCluster_RedisPort_NotOfLocalScript reads the range from which deploy/local-cluster.sh, which runs beside other tests, draws its ports.
func TestCluster_RedisPort_NotOfLocalScript(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../../deploy/local-cluster.sh")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`number=\$\(\((\d+) \+ RANDOM % (\d+)\)\)`).FindSubmatch(script)
	if found == nil {
		t.Fatal("deploy/local-cluster.sh draws no port from a range")
	}
	first, _ := strconv.Atoi(string(found[1]))
	count, _ := strconv.Atoi(string(found[2]))
	const outgoing = 32768 // the first port that the system lends
	for _, lowest := range []int{lowestClusterPort, lowestClusterPort + clusterBus} {
		if first < lowest+clusterPorts && lowest < first+count || first+count > outgoing {
			t.Errorf("deploy/local-cluster.sh draws from %d to %d, want none of %d to %d, and none from %d on", first, first+count-1,
				lowest, lowest+clusterPorts-1, outgoing)
		}
	}
}
