package facts

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"unique"

	"usher/backends"
)

// Opening is the request that opened a session. The zero value is an empty request. It is safe for concurrent use, and not copied
// after its first use.
type Opening struct {
	mu sync.Mutex
	packed
}

// packed is one request.
type packed struct {
	place unique.Handle[place]
	agent unique.Handle[string]
	own   string // see encode; empty: nothing was stored yet
}

// place is what the requests of many viewers have in common.
type place struct{ route, channel, backend, scheme, host string }

func (o *Opening) load() packed {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.packed
}

// Store keeps the request, without its session and what belongs to one check.
func (o *Opening) Store(r *backends.Request) {
	p := packed{
		place: unique.Make(place{route: r.Route, channel: r.Channel, backend: r.Backend, scheme: r.Scheme, host: r.Host}),
		agent: unique.Make(r.UserAgent), own: encode(r),
	}
	o.mu.Lock()
	o.packed = p
	o.mu.Unlock()
}

// SetBackend makes the request one to another backend.
func (o *Opening) SetBackend(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at := o.at(); at.backend != name && o.own != "" {
		at.backend = name
		o.place = unique.Make(at)
	}
}

// Request returns the request as one of the session.
func (o *Opening) Request(id backends.SessionID) *backends.Request {
	p := o.load()
	at := p.at()
	r := &backends.Request{
		Session: id, Route: at.route, Channel: at.channel, Backend: at.backend, Scheme: at.scheme, Host: at.host,
	}
	if p.own != "" {
		r.UserAgent = p.agent.Value()
		decode(r, p.own)
	}
	return r
}

// Backend returns the request's backend.
func (o *Opening) Backend() string { return o.load().at().backend }

// Route returns the request's route.
func (o *Opening) Route() string { return o.load().at().route }

// Channel returns the request's channel.
func (o *Opening) Channel() string { return o.load().at().channel }

// Address returns the viewer's address. It does not allocate.
func (o *Opening) Address() netip.Addr {
	d := decoder{rest: o.load().own}
	if d.rest == "" {
		return netip.Addr{}
	}
	d.next()
	return d.address()
}

// Group returns [backends.Request.Group]. It does not allocate.
func (o *Opening) Group() (group backends.SessionID) {
	d := decoder{rest: o.load().own}
	if d.rest == "" || d.next()&hasGroup == 0 {
		return group
	}
	d.address()
	copy(group[:], d.take(uint64(len(group))))
	return group
}

// HasEdgeReport reports whether the request has [backends.Request.Edge]: an edge with sessions of its own asked. It does not allocate.
func (o *Opening) HasEdgeReport() bool {
	own := o.load().own
	return own != "" && own[0]&hasEdge != 0
}

func (p packed) at() place {
	if p.own == "" {
		return place{}
	}
	return p.place.Value()
}

// The first byte of a session's own facts says what follows beside address, query and path.
const (
	hasGroup = 1 << iota
	hasHeaders
	hasDevice
	hasReferer
	hasEdge
	isArchive
)

// The byte of an edge's report says which facts it has.
const (
	edgeSession = 1 << iota
	edgeChannel
	edgePath
	edgeHost
)

// encode returns the session's own facts in the order in which decode reads them.
func encode(r *backends.Request) string {
	var room [256]byte
	b := append(room[:0], head(r))
	address, _ := r.Address.AppendBinary(nil) // it does not fail
	b = appendText(b, string(address))
	if !r.Group.IsZero() {
		b = append(b, r.Group[:]...)
	}
	b = appendText(appendText(b, r.Query), r.Path)
	if len(r.Headers) > 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Headers)))
		for _, h := range r.Headers {
			b = appendText(appendText(b, h.Name), h.Value)
		}
	}
	if r.Device != "" {
		b = appendText(b, r.Device)
	}
	if r.Referer != "" {
		b = appendText(b, r.Referer)
	}
	if e := r.Edge; e != nil {
		b = append(b, edgeHead(e))
		b = appendText(appendText(b, e.AstraSession), e.FlussonicSession)
		b = appendText(appendText(b, e.Origin), e.Protocol)
	}
	return string(b)
}

func head(r *backends.Request) byte {
	return flag(!r.Group.IsZero(), hasGroup) | flag(len(r.Headers) > 0, hasHeaders) | flag(r.Device != "", hasDevice) |
		flag(r.Referer != "", hasReferer) | flag(r.Edge != nil, hasEdge) | flag(r.Edge != nil && r.Edge.IsArchive, isArchive)
}

func edgeHead(e *backends.EdgeReport) byte {
	return flag(e.HasSession, edgeSession) | flag(e.HasChannel, edgeChannel) | flag(e.HasPath, edgePath) | flag(e.HasHost, edgeHost)
}

func flag(isSet bool, bit byte) byte {
	if isSet {
		return bit
	}
	return 0
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// decode adds a session's own facts to the request. Their texts share the bytes of data.
func decode(r *backends.Request, data string) {
	d := decoder{rest: data}
	head := d.next()
	r.Address = d.address()
	if head&hasGroup != 0 {
		copy(r.Group[:], d.take(uint64(len(r.Group))))
	}
	r.Query, r.Path = d.text(), d.text()
	if head&hasHeaders != 0 {
		r.Headers = make([]backends.Header, d.number())
		for i := range r.Headers {
			r.Headers[i] = backends.Header{Name: d.text(), Value: d.text()}
		}
	}
	if head&hasDevice != 0 {
		r.Device = d.text()
	}
	if head&hasReferer != 0 {
		r.Referer = d.text()
	}
	if head&hasEdge != 0 {
		r.Edge = d.edge()
		r.Edge.IsArchive = head&isArchive != 0
	}
}

// decoder reads what encode wrote.
type decoder struct{ rest string }

func (d *decoder) next() byte { return d.take(1)[0] }

func (d *decoder) take(n uint64) string {
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) number() (n uint64) {
	const more = 0x80
	for shift := 0; ; shift += 7 {
		b := d.next()
		n |= uint64(b&^more) << shift
		if b < more {
			return n
		}
	}
}

func (d *decoder) text() string { return d.take(d.number()) }

// address reads an address as [netip.Addr.AppendBinary] writes it: without a zone it needs no allocation.
func (d *decoder) address() netip.Addr {
	const ipv4, ipv6 = 4, 16
	switch text := d.text(); {
	case text == "":
		return netip.Addr{}
	case len(text) == ipv4:
		var a [ipv4]byte
		copy(a[:], text)
		return netip.AddrFrom4(a)
	default:
		var a [ipv6]byte
		copy(a[:], text)
		return netip.AddrFrom16(a).WithZone(strings.Clone(text[ipv6:]))
	}
}

func (d *decoder) edge() *backends.EdgeReport {
	head := d.next()
	return &backends.EdgeReport{
		HasSession: head&edgeSession != 0, HasChannel: head&edgeChannel != 0, HasPath: head&edgePath != 0, HasHost: head&edgeHost != 0,
		AstraSession: d.text(), FlussonicSession: d.text(), Origin: d.text(), Protocol: d.text(),
	}
}
