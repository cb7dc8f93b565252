package admission

import (
	"net/netip"
	"time"

	"usher/backends"
)

// Limits bound how many sessions are opened. All are positive.
type Limits struct {
	// Rate and Burst bound the node, and Rate by address and by network those; see package actors' Config.
	Rate, Burst          int
	RatePerAddress       int
	BurstPerAddress      int
	RatePerNetwork       int
	BurstPerNetwork      int
	DeniedRate           int
	DeniedRatePerNetwork int
	StrangerShare        int // in percent
}

// deniedSeconds is for how many seconds the denial budgets are saved up. Strangers about whom a backend is being asked draw on
// them too, and it may be slow.
const deniedSeconds = 10

const (
	// noisyShare is the share of the node's denial budget that strangers of a network with a recent denial use at most, in percent.
	noisyShare = 50
	// noisyFor is how long a denial is recent, for each of up to maxNoise.
	noisyFor = time.Minute
	maxNoise = 10
)

// Gate limits the rate of openings. It is safe for concurrent use.
type Gate struct {
	limits                    Limits
	address, network, node    *Rate
	deniedNetwork, deniedNode *Rate
	// noise holds the networks with recent denials.
	noise *Rate
}

// NewGate returns a gate by which nobody has passed.
func NewGate(start time.Time, l Limits) *Gate {
	return &Gate{
		limits: l, address: PerSecond(start, l.RatePerAddress, l.BurstPerAddress),
		network: PerSecond(start, l.RatePerNetwork, l.BurstPerNetwork), node: total(start, l.Rate, l.Burst),
		deniedNetwork: PerSecond(start, l.DeniedRatePerNetwork, l.DeniedRatePerNetwork*deniedSeconds),
		deniedNode:    total(start, l.DeniedRate, l.DeniedRate*deniedSeconds),
		noise:         NewRate(start, noisyFor, maxNoise),
	}
}

// Limits returns what the gate was made with.
func (g *Gate) Limits() Limits { return g.limits }

// Viewer is who wants to open a session.
type Viewer struct {
	Address netip.Addr
	// HasTicket: they have a valid ticket, and pass the rates by which openings without one are bounded. IsSibling: it is that of
	// another address, so that the rate of the address bounds them still.
	HasTicket, IsSibling bool
	// IsStranger: they have no ticket, and were not allowed before.
	IsStranger bool
}

// Pass is what a stranger draws on until they are allowed. The zero value is nothing.
type Pass struct {
	gate *Gate
	// hash is the network's in deniedNetwork, and noiseHash in noise.
	hash, noiseHash uint64
	isNoise         bool // it was counted in noise
}

// GiveBack returns what the stranger drew on. It is called once at most.
func (p *Pass) GiveBack() {
	if p.gate == nil {
		return
	}
	p.gate.deniedNetwork.giveBack(p.hash)
	p.gate.deniedNode.giveBack(0)
	if p.isNoise {
		p.gate.noise.giveBack(p.noiseHash)
	}
}

// Open counts an opening, or returns the bound that it meets. A stranger's pass is given back unless they are denied.
func (g *Gate) Open(v Viewer, now time.Time) (p Pass, over *backends.Overload) {
	if v.IsStranger {
		if p, over = g.drawDenial(v, now); over != nil {
			return p, over
		}
	}
	if over = g.count(v, now); over != nil {
		p.GiveBack()
		return Pass{}, over
	}
	return p, nil
}

// drawDenial draws on the denial budgets of the stranger's network and of the node.
func (g *Gate) drawDenial(v Viewer, now time.Time) (Pass, *backends.Overload) {
	network, share := Network(v.Address), whole
	p := Pass{gate: g, hash: hashOf(g.deniedNetwork, network), noiseHash: hashOf(g.noise, network)}
	if !g.noise.isQuiet(p.noiseHash, now) {
		share = noisyShare
	}
	if !g.deniedNetwork.allow(p.hash, now, whole) {
		return Pass{}, backends.NewOverload("sessions.denied_rate_per_network", g.limits.DeniedRatePerNetwork)
	}
	if !g.deniedNode.allow(0, now, share) {
		g.deniedNetwork.giveBack(p.hash)
		return Pass{}, backends.NewOverload("sessions.denied_rate", g.limits.DeniedRate)
	}
	p.isNoise = g.noise.allow(p.noiseHash, now, whole)
	return p, nil
}

// count counts the opening against the rates of all openings.
func (g *Gate) count(v Viewer, now time.Time) *backends.Overload {
	if (!v.HasTicket || v.IsSibling) && !g.address.AllowAddress(v.Address, now) {
		return backends.NewOverload("sessions.open_rate_per_address", g.limits.RatePerAddress)
	}
	if v.HasTicket {
		return nil
	}
	share := whole
	if v.IsStranger {
		share = g.limits.StrangerShare
	}
	switch {
	case !g.network.allow(hashOf(g.network, Network(v.Address)), now, share):
		return backends.NewOverload("sessions.open_rate_per_network", g.limits.RatePerNetwork)
	case !g.node.allow(0, now, share):
		return backends.NewOverload("sessions.open_rate", g.limits.Rate)
	}
	return nil
}

// Network returns the network of an address: an IPv4 address's /24, an IPv6 address's /48. An invalid address has the zero prefix.
func Network(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := 48
	if address.Is4() {
		bits = 24
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address
	}
	return prefix
}
