package listener

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	// sampleSize is among how many connections the longest idle one is looked for.
	sampleSize = 64
	// warnInterval is how often the log may tell of one bound.
	warnInterval = time.Minute
)

// The bounds, by the names of their settings.
const (
	maxConnections           = "limits.max_connections"
	maxConnectionsPerAddress = "limits.max_connections_per_address"
)

// maxPrivate is how many connections a listener may have that is not for viewers: far more than operators' pages, scrapes and the workers of proxies.
const maxPrivate = 4000

// Options are what a listener needs besides the connections.
type Options struct {
	ProxyProtocol ProxyProtocol
	Limits        Limits
	// HeaderTimeout bounds the arrival of a PROXY header.
	HeaderTimeout time.Duration
	// IsExempt reports whether an address is exempt from max_connections_per_address. Nil: none is.
	IsExempt func(netip.Addr) bool
	// OnOverload is called with the setting for each connection that a bound closed. Nil: nobody counts them.
	OnOverload func(setting string)
	Logger     *slog.Logger
}

// Listener is a listener whose connections are bounded. It is safe for concurrent use.
type Listener struct {
	net.Listener
	options Options

	most     int    // how many connections may be open
	mostName string // what that is called

	mu       sync.Mutex
	open     group
	bySource map[netip.Prefix]*group // those of addresses that are not exempt
	warnedAt map[string]time.Time    // by setting
}

// group is a set of connections, each of which knows its place in it.
type group struct{ conns []*Conn }

// place is one of the places that a connection keeps.
type place int

const (
	inAll place = iota
	inSource
	numPlaces
)

func (g *group) add(c *Conn, p place) {
	c.index[p] = len(g.conns)
	g.conns = append(g.conns, c)
}

func (g *group) remove(c *Conn, p place) {
	last := len(g.conns) - 1
	moved := g.conns[last]
	g.conns[c.index[p]], moved.index[p] = moved, c.index[p]
	g.conns[last] = nil
	g.conns = g.conns[:last]
}

// longestIdle returns the longest idle of some connections, or nil if none of them is idle.
func (g *group) longestIdle() (found *Conn) {
	since := int64(0)
	for i := range min(sampleSize, len(g.conns)) {
		c := g.conns[i]
		if len(g.conns) > sampleSize {
			c = g.conns[rand.IntN(len(g.conns))] //nolint:gosec // a fair draw, not a secret
		}
		if at := c.idleSince.Load(); at != 0 && (found == nil || at < since) {
			found, since = c, at
		}
	}
	return found
}

// New returns a listener over inner. Its ConnState must be told of what happens to each connection.
func New(inner net.Listener, o Options) *Listener {
	o.Limits = o.Limits.possible(o.Logger)
	return newListener(inner, o, o.Limits.MaxConnections, maxConnections)
}

// NewPrivate returns a listener over inner that is not for viewers, of which no setting says how many connections it may have. bound is what
// onOverload is called with for each connection beyond; nil: nobody counts them.
func NewPrivate(inner net.Listener, bound string, onOverload func(string), log *slog.Logger) *Listener {
	return newListener(inner, Options{OnOverload: onOverload, Logger: log}, maxPrivate, bound)
}

func newListener(inner net.Listener, o Options, most int, mostName string) *Listener {
	return &Listener{
		Listener: inner, options: o, most: most, mostName: mostName,
		bySource: map[netip.Prefix]*group{}, warnedAt: map[string]time.Time{},
	}
}

// Accept returns the next connection that no bound closes.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := l.wrap(raw)
		if !l.enterAll(c) || !c.isProxied && c.admit() != nil {
			_ = c.Close()
			continue
		}
		return c, nil
	}
}

// wrap returns the connection as this package keeps it.
func (l *Listener) wrap(raw net.Conn) *Conn {
	c := &Conn{Conn: raw, listener: l}
	c.idleSince.Store(time.Now().UnixNano())
	peer, isIP := addressOf(raw)
	if isIP && slices.ContainsFunc(l.options.ProxyProtocol.From, func(p netip.Prefix) bool { return p.Contains(peer) }) {
		c.isProxied = true
		c.Conn = proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.USE), proxyproto.SetReadHeaderTimeout(l.options.HeaderTimeout))
	}
	return c
}

// addressOf returns the address of the connection's other end.
func addressOf(c net.Conn) (netip.Addr, bool) {
	if a, isTCP := c.RemoteAddr().(*net.TCPAddr); isTCP {
		return a.AddrPort().Addr().Unmap(), true
	}
	return netip.Addr{}, false
}

// enter adds a connection to a group, of which the longest idle one makes room if it is full. It reports whether it could. The
// caller holds the lock.
func (l *Listener) enter(g *group, c *Conn, p place, most int, setting string) bool {
	if most > 0 && len(g.conns) >= most {
		idle := g.longestIdle()
		l.overloaded(setting, most, c)
		if idle == nil {
			return false
		}
		l.remove(idle)
		go idle.closeNow() // outside of the lock
	}
	g.add(c, p)
	c.isIn[p] = true
	return true
}

// overloaded tells that a bound was reached.
func (l *Listener) overloaded(setting string, most int, c *Conn) {
	if l.options.OnOverload != nil {
		l.options.OnOverload(setting)
	}
	now := time.Now()
	if at, wasWarned := l.warnedAt[setting]; wasWarned && now.Sub(at) < warnInterval {
		return
	}
	l.warnedAt[setting] = now
	l.options.Logger.Warn("connection limit reached, closing idle connections and then new ones", slog.String("setting", setting),
		slog.Int("limit", most), slog.String("client_address", c.source.String()))
}

// enterAll adds a connection to all.
func (l *Listener) enterAll(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.enter(&l.open, c, inAll, l.most, l.mostName)
}

// enterSource adds a connection to those of its subscriber.
func (l *Listener) enterSource(c *Conn, source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.isClosed {
		return false
	}
	g := l.bySource[source]
	if g == nil {
		g = new(group)
	}
	c.source = source
	if !l.enter(g, c, inSource, l.options.Limits.MaxConnectionsPerAddress, maxConnectionsPerAddress) {
		return false
	}
	l.bySource[source] = g // also if the one that made room was its last, with which remove forgot the group
	return true
}

// remove forgets a connection. The caller holds the lock.
func (l *Listener) remove(c *Conn) {
	if c.isIn[inAll] {
		l.open.remove(c, inAll)
	}
	if g := l.bySource[c.source]; g != nil {
		if c.isIn[inSource] {
			g.remove(c, inSource)
		}
		if len(g.conns) == 0 {
			delete(l.bySource, c.source)
		}
	}
	c.isIn = [numPlaces]bool{}
}

// ConnState notes whether a connection serves a request. It is the hook of [http.Server] of that name.
func (l *Listener) ConnState(c net.Conn, state http.ConnState) {
	own := Of(c)
	if own == nil {
		return
	}
	switch {
	case state == http.StateIdle, state == http.StateNew:
		own.SetIdle(time.Now())
	case state == http.StateActive && (own.hasRequested.Load() || own.isGreeted.Swap(true) || !isHTTP2(c)):
		own.SetActive()
	default: // HTTP/2 is active once before the first request: when it begins
		own.idleSince.Store(0)
	}
}
