package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// network is a network namespace with two links to the machine: the front for viewers, the origin and the middleware, and
// the back for Redis. A cut link drops all packets without an error to either end.
type network struct {
	name string
	// front and back are the addresses of each link's ends: the machine's and the namespace's.
	front, back [2]string
}

// startNetwork makes a network namespace until the test ends. It needs root.
func startNetwork(t *testing.T) *network {
	t.Helper()
	number := rand.IntN(1 << 16)
	n := &network{name: fmt.Sprintf("usher%04x", number)}
	ip(t, "netns", "add", n.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.name).Run() })
	n.in(t, "link", "set", "lo", "up")
	for i, ends := range []*[2]string{&n.front, &n.back} {
		outside, inside := n.link(i), fmt.Sprintf("in%d", i)
		net := fmt.Sprintf("10.%d.%d.", 20+i*100+number>>8%100, number&0xff)
		ends[0], ends[1] = net+"1", net+"2"
		ip(t, "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", n.name)
		ip(t, "addr", "add", ends[0]+"/30", "dev", outside)
		ip(t, "link", "set", outside, "up")
		n.in(t, "addr", "add", ends[1]+"/30", "dev", inside)
		n.in(t, "link", "set", inside, "up")
	}
	return n
}

// link returns the name of the machine's end of the front (0) or the back (1).
func (n *network) link(i int) string { return fmt.Sprintf("%s-%d", n.name, i) }

// cut takes the back down, mend brings it up again.
func (n *network) cut(t *testing.T)  { t.Helper(); ip(t, "link", "set", n.link(1), "down") }
func (n *network) mend(t *testing.T) { t.Helper(); ip(t, "link", "set", n.link(1), "up") }

// in runs ip inside the namespace.
func (n *network) in(t *testing.T, args ...string) {
	t.Helper()
	ip(t, append([]string{"-n", n.name}, args...)...)
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(tool(t, "ip", "iproute2"), args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s, which needs root: %v: %s", strings.Join(args, " "), err, out)
	}
}

// listenOn replaces a listener by one on that address.
func listenOn(t *testing.T, old net.Listener, address string) net.Listener {
	t.Helper()
	_ = old.Close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
