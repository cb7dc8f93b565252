package viewer

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"usher/bench/viewer/playlist"
	"usher/bench/viewer/wire"
)

// origins are the servers that viewers have met, the targets first. It is safe for concurrent use.
type origins struct {
	mu    sync.RWMutex
	names []string
	all   []*wire.Origin
	index map[string]uint16
}

const maxOrigins = 1 << 16

// add returns the index of an origin such as "http://tv:8080", or false if there are too many.
func (o *origins) add(name string) (uint16, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i, known := o.index[name]; known {
		return i, true
	}
	if len(o.all) >= maxOrigins {
		return 0, false
	}
	if o.index == nil {
		o.index = map[string]uint16{}
	}
	i := uint16(len(o.all))
	o.index[name], o.names, o.all = i, append(o.names, name), append(o.all, newOrigin(name))
	return i, true
}

// addBytes does the same without an allocation for a known origin.
func (o *origins) addBytes(name []byte) (uint16, bool) {
	o.mu.RLock()
	i, known := o.index[string(name)]
	o.mu.RUnlock()
	if known {
		return i, true
	}
	return o.add(string(name))
}

func newOrigin(name string) *wire.Origin {
	_, rest, _ := playlist.SplitURL([]byte(name + "/"))
	host := name[:len(name)+1-len(rest)]
	isTLS := len(host) > 5 && host[4] == 's'
	host = host[len("http://"):]
	port := ":80"
	if isTLS {
		host, port = host[1:], ":443"
	}
	return &wire.Origin{IsTLS: isTLS, Host: host, Address: withPort(host, port)}
}

// withPort adds the scheme's port to an authority without one.
func withPort(host, port string) string {
	for i := len(host) - 1; i >= 0 && host[i] != ']'; i-- {
		if host[i] == ':' {
			return host
		}
	}
	return host + port
}

// appendURL appends an origin's name, the start of its URLs.
func (o *origins) appendURL(dst []byte, i uint16) []byte {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return append(dst, o.names[i]...)
}

func (o *origins) at(i uint16) *wire.Origin {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.all[i]
}

// connections are each viewer's own, or in light mode those that all share. It is safe for concurrent use by workers of different
// viewers.
type connections struct {
	client *wire.Client
	config *Config
	// own are the connections by slot: to the origin of the playlists, and to another one of the segments.
	own [][2]*wire.Conn

	mu     sync.Mutex
	shared map[*wire.Origin][]*wire.Conn
	opened uint32
}

func newConnections(client *wire.Client, c *Config, slots int) *connections {
	all := &connections{client: client, config: c}
	if c.Light || c.Auth != nil { // an edge's connections are its own, not the viewers'
		all.shared = map[*wire.Origin][]*wire.Conn{}
	} else {
		all.own = make([][2]*wire.Conn, slots)
	}
	return all
}

// take returns a connection for a request of a viewer, who gives it back.
func (c *connections) take(slot uint32, v *viewer, origin *wire.Origin) *wire.Conn {
	if c.own == nil {
		return c.takeShared(origin)
	}
	source := c.source(v.address)
	own := &c.own[slot]
	for _, conn := range own {
		if conn != nil && conn.Is(origin, source) {
			return conn
		}
	}
	if own[1] != nil {
		own[1].Close()
	}
	own[1] = own[0]
	own[0] = c.client.NewConn(origin, source)
	return own[0]
}

func (c *connections) takeShared(origin *wire.Origin) *wire.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if idle := c.shared[origin]; len(idle) > 0 {
		conn := idle[len(idle)-1]
		c.shared[origin] = idle[:len(idle)-1]
		return conn
	}
	c.opened++
	return c.client.NewConn(origin, c.source(c.opened))
}

func (c *connections) give(origin *wire.Origin, conn *wire.Conn) {
	if c.own == nil {
		c.mu.Lock()
		c.shared[origin] = append(c.shared[origin], conn)
		c.mu.Unlock()
	}
}

// drop closes a viewer's own connections.
func (c *connections) drop(slot uint32) {
	if c.own == nil {
		return
	}
	for _, conn := range c.own[slot] {
		if conn != nil {
			conn.Close()
		}
	}
	c.own[slot] = [2]*wire.Conn{}
}

// source returns the local address of a viewer or a shared connection.
func (c *connections) source(index uint32) netip.Addr { return addressIn(c.config.Sources, index) }

// addressIn returns an address of a network, not its first one as long as it has others; the zero value if the network is none.
// Bits beyond 32 are those of the network.
func addressIn(network netip.Prefix, index uint32) netip.Addr {
	if !network.IsValid() {
		return netip.Addr{}
	}
	bits := min(32, network.Addr().BitLen()-network.Bits())
	if bits > 0 {
		index = uint32((uint64(index) + 1) & (1<<bits - 1))
	} else {
		index = 0
	}
	bytes := network.Masked().Addr().AsSlice()
	last := bytes[len(bytes)-4:]
	binary.BigEndian.PutUint32(last, binary.BigEndian.Uint32(last)|index)
	a, _ := netip.AddrFromSlice(bytes)
	return a
}
