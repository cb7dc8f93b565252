package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Link is how packets between two hosts fare, in both directions. The zero value is a link without a fault.
type Link struct {
	// Delay is what each packet waits, and Jitter what it may wait more or less. With Jitter packets overtake one another.
	Delay, Jitter time.Duration
	// Loss is the share of packets that are dropped, 0 to 1.
	Loss float64
	// IsCut drops all packets.
	IsCut bool
}

// Network is hosts and the links between them. Its methods are safe for concurrent use, except Close.
type Network struct {
	forwarding sync.WaitGroup
	life       context.Context
	end        context.CancelFunc

	mu    sync.RWMutex
	hosts map[netip.Addr]*Host
	links map[[2]netip.Addr]Link
}

// ErrUnable is wrapped by New's error if this machine or user cannot have a network of namespaces.
var ErrUnable = errors.New("network namespaces cannot be made")

// programs are those that the network needs, with their Debian packages.
func programs() map[string]string {
	return map[string]string{
		"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "sleep": "coreutils", "mount": "mount",
	}
}

// New returns a network without hosts.
func New() (*Network, error) {
	var missing []string
	for program, pkg := range programs() {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Sprintf("%s is not installed (Debian: apt-get install %s)", program, pkg))
		}
	}
	switch _, err := os.Stat(tunDevice); {
	case runtime.GOOS != "linux":
		return nil, fmt.Errorf("%w: this system is %s, not Linux", ErrUnable, runtime.GOOS)
	case os.Getuid() != 0:
		return nil, fmt.Errorf("%w: this user is not root", ErrUnable)
	case err != nil:
		return nil, fmt.Errorf("%w: the kernel has no TUN devices: %w (try: modprobe tun)", ErrUnable, err)
	case len(missing) > 0:
		return nil, fmt.Errorf("%w: %s", ErrUnable, strings.Join(missing, "; "))
	}
	n := &Network{hosts: map[netip.Addr]*Host{}, links: map[[2]netip.Addr]Link{}}
	n.life, n.end = context.WithCancel(context.Background())
	return n, nil
}

const tunDevice = "/dev/net/tun"

// maxHosts is how many addresses the network has.
const maxHosts = 250

// Add adds a host. Its address is the next one of 10.77.0.0/24.
func (n *Network) Add(ctx context.Context, name string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.hosts) + 1
	if number > maxHosts {
		return nil, fmt.Errorf("host %s: the network has %d already", name, maxHosts)
	}
	h := &Host{Name: name, life: n.life, Address: netip.AddrFrom4([4]byte{10, 77, 0, byte(number)})}
	if err := h.start(ctx); err != nil {
		h.close()
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	n.hosts[h.Address] = h
	n.forwarding.Go(func() { n.forward(h) })
	return h, nil
}

// Set changes the link between two hosts.
func (n *Network) Set(a, b *Host, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := maps.Clone(n.links)
	links[[2]netip.Addr{a.Address, b.Address}], links[[2]netip.Addr{b.Address, a.Address}] = l, l
	n.links = links
}

// forward passes on what a host sends, until it closes.
func (n *Network) forward(from *Host) {
	const largest = 1 << 16
	buffer := make([]byte, largest)
	for {
		size, err := from.tun.Read(buffer)
		if err != nil {
			return
		}
		address, ok := destination(buffer[:size])
		if !ok {
			continue // IPv6, which the network does not have
		}
		n.mu.RLock()
		to, link := n.hosts[address], n.links[[2]netip.Addr{from.Address, address}]
		n.mu.RUnlock()
		if to == nil {
			continue
		}
		delay, isLost := link.draw(rand.Float64(), rand.Float64())
		switch {
		case isLost:
		case delay <= 0:
			to.receive(buffer[:size])
		default:
			packet := append([]byte(nil), buffer[:size]...)
			time.AfterFunc(delay, func() { to.receive(packet) })
		}
	}
}

// draw returns how long a packet waits, or that it is lost, by two numbers from 0 to below 1.
func (l Link) draw(chance, place float64) (delay time.Duration, isLost bool) {
	if l.IsCut || chance < l.Loss {
		return 0, true
	}
	return max(0, l.Delay+time.Duration((2*place-1)*float64(l.Jitter))), false
}

// destination returns the destination of an IPv4 packet.
func destination(packet []byte) (netip.Addr, bool) {
	const shortest, version, at = 20, 4, 16
	if len(packet) < shortest || packet[0]>>4 != version {
		return netip.Addr{}, false
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(packet[at:]))
	return netip.AddrFrom4(b), true
}

// Close ends the hosts. Processes in them have to be ended before.
func (n *Network) Close() {
	n.end()
	n.mu.Lock()
	for _, h := range n.hosts {
		h.close()
	}
	n.mu.Unlock()
	n.forwarding.Wait()
}
