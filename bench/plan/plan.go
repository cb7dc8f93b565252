package plan

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Demand is what viewers do.
type Demand struct {
	// Viewers watch at once.
	Viewers int
	// Validity is how long an answer of the middleware holds.
	Validity time.Duration
	// Segment is the length of a segment, and the time between two reloads of a playlist.
	Segment time.Duration
	// Bitrate is of one stream, in bit/s.
	Bitrate float64
	// Ramp is the time in which all viewers arrive.
	Ramp time.Duration
	// ZapsPerHour is how often a viewer goes to another channel. The channel that they left is a session for IdleTimeout, and a record in
	// Redis for SessionTTL after its decision expires: the settings sessions.idle_timeout and cluster.session_ttl.
	ZapsPerHour             float64
	IdleTimeout, SessionTTL time.Duration
	// Limited is the share of viewers whose user has a stream limit, 0 to 1.
	Limited float64
	// IsEdge: other servers serve the media, and ask about each request: a playlist and a segment in the time of one. A channel that was
	// left there is a session for the validity and ExtraLifetime, the setting edge.extra_lifetime, if that is longer than IdleTimeout.
	IsEdge        bool
	ExtraLifetime time.Duration
	// EdgeKeepsAnswers: they ask about each viewer only once an answer has expired.
	EdgeKeepsAnswers bool
	// WithoutRedis: each node asks about the viewers whom it serves. The balancer keeps a viewer on one node; otherwise there is
	// a call for each node that serves them.
	WithoutRedis bool
	// Heartbeat is how often a node reports a session to Redis.
	Heartbeat time.Duration
}

// zaps returns how often a second any viewer goes to another channel.
func (d *Demand) zaps() float64 { return float64(d.Viewers) * d.ZapsPerHour / 3600 }

// leftSessions returns how many sessions nodes hold of channels that viewers have left.
func (d *Demand) leftSessions() float64 {
	idle := d.IdleTimeout
	if d.IsEdge {
		idle = max(idle, d.Validity+d.ExtraLifetime)
	}
	return d.zaps() * idle.Seconds()
}

// renewedAfter is the mean share of a validity after which an answer is renewed: sessions.recheck.jitter_percent has re-checks begin up to
// 10 % early.
const renewedAfter = 0.95

// rechecks returns how many answers a second are renewed. A channel that was left is asked about for as long as it is a session.
func (d *Demand) rechecks() float64 {
	return (float64(d.Viewers) + d.leftSessions()) / (renewedAfter * d.Validity.Seconds())
}

// leftRecords returns how many records Redis holds of them. Each counts as if its decision had been made as the viewer left.
func (d *Demand) leftRecords() float64 { return d.zaps() * (d.SessionTTL + d.Validity).Seconds() }

// Machine is what a node has.
type Machine struct {
	Cores float64
	// Memory is in bytes, Network in bit/s.
	Memory, Network float64
	// MaxSessions is the setting sessions.max.
	MaxSessions int
	// Headroom is the share of the machine that is left free, 0 to less than 1.
	Headroom float64
	// Spare nodes may fail without harm.
	Spare int
}

// Validate names every value that cannot be.
func (d Demand) Validate() error {
	var errs []error
	want := func(holds bool, format string, values ...any) {
		if !holds {
			errs = append(errs, fmt.Errorf(format, values...))
		}
	}
	want(d.Viewers > 0, "viewers: %d, want more than 0", d.Viewers)
	want(d.Validity >= time.Second, "validity: %v, want at least 1s", d.Validity)
	want(d.Segment >= time.Second, "segment: %v, want at least 1s", d.Segment)
	want(isPositive(d.Bitrate), "bitrate: %v, want more than 0", d.Bitrate)
	want(d.Ramp >= time.Second, "ramp: %v, want at least 1s", d.Ramp)
	want(d.ZapsPerHour == 0 || isPositive(d.ZapsPerHour), "zaps: %v, want 0 or more", d.ZapsPerHour)
	want(d.IdleTimeout >= 0, "idle-timeout: %v, want 0s or more", d.IdleTimeout)
	want(d.ExtraLifetime >= 0, "extra-lifetime: %v, want 0s or more", d.ExtraLifetime)
	want(d.SessionTTL >= 0, "session-ttl: %v, want 0s or more", d.SessionTTL)
	want(d.Limited >= 0 && d.Limited <= 1, "limited: %v, want 0 to 1", d.Limited)
	want(d.Heartbeat >= time.Second, "heartbeat: %v, want at least 1s", d.Heartbeat)
	want(d.IsEdge || !d.EdgeKeepsAnswers, "edge-keeps-answers: true without edge, want both or neither")
	return errors.Join(errs...)
}

// isPositive reports whether v is a number above 0.
func isPositive(v float64) bool { return v > 0 && !math.IsInf(v, 0) }

// Validate names every value that cannot be.
func (m Machine) Validate() error {
	var errs []error
	want := func(holds bool, format string, values ...any) {
		if !holds {
			errs = append(errs, fmt.Errorf(format, values...))
		}
	}
	want(isPositive(m.Cores), "cores: %v, want more than 0", m.Cores)
	want(isPositive(m.Memory), "memory: %v, want more than 0", m.Memory)
	want(isPositive(m.Network), "network: %v, want more than 0", m.Network)
	want(m.MaxSessions > 0, "max-sessions: %d, want more than 0", m.MaxSessions)
	want(m.Headroom >= 0 && m.Headroom < 1, "headroom: %v, want 0 to less than 1", m.Headroom)
	want(m.Spare >= 0, "spare: %d, want 0 or more", m.Spare)
	return errors.Join(errs...)
}

// Plan is what a demand needs.
type Plan struct {
	// Nodes are the nodes with the spare ones, RedisServers the masters.
	Nodes        int `json:"nodes"`
	RedisServers int `json:"redis_servers"`
	// First is the bound that is reached first.
	First string `json:"first_bound"`
	// RecheckRate is the least recheck_rate with which all answers are renewed in time.
	RecheckRate int `json:"recheck_rate"`
	// Middleware calls a second, while all viewers watch and while they arrive.
	Calls         float64 `json:"middleware_calls"`
	CallsWhenFull float64 `json:"middleware_calls_at_ramp"`
	// Bounds are the nodes that each bound demands, without spare ones.
	Bounds []Bound `json:"bounds"`
	// Products are how the figures came about.
	Products []Product `json:"products"`
}

// Bound is a bound of a node.
type Bound struct {
	Name string `json:"name"`
	// Need is what all viewers need, PerNode what a node offers, both in Unit.
	Need    float64 `json:"need"`
	PerNode float64 `json:"per_node"`
	Unit    string  `json:"unit"`
	Nodes   int     `json:"nodes"`
}

// Product is one line of arithmetic: Count times Cost.
type Product struct {
	// Of is what Value adds up to: "cpu", "network", "memory", "redis cpu" or "redis memory".
	Of    string  `json:"of"`
	Name  string  `json:"name"`
	Count float64 `json:"count"`
	Cost  float64 `json:"cost"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Make reckons a plan for the worst moment: all viewers have arrived but for the last, and still arrive at the ramp's rate.
func Make(d Demand, m Machine, c Costs) (Plan, error) {
	if err := errors.Join(d.Validate(), m.Validate()); err != nil {
		return Plan{}, err
	}
	viewers := float64(d.Viewers)
	arrivals, zaps := viewers/d.Ramp.Seconds(), d.zaps()
	rechecks := d.rechecks()
	p := Plan{Calls: rechecks + zaps, RecheckRate: int(math.Ceil(rechecks))}
	p.CallsWhenFull = p.Calls + arrivals
	p.addNode(d, &c, arrivals+zaps)
	free := 1 - m.Headroom
	p.Bounds = []Bound{
		newBound("cpu", "cores", p.total("cpu"), m.Cores*free),
		newBound("network", "bit/s", p.total("network"), m.Network*free),
		newBound("memory", "bytes", p.total("memory"), m.Memory*free-c.Node),
		newBound("sessions.max", "sessions", viewers+d.leftSessions(), float64(m.MaxSessions)),
	}
	first := 0.0
	for _, b := range p.Bounds {
		if b.PerNode <= 0 {
			return Plan{}, fmt.Errorf("memory: %.0f with a headroom of %v, want more than the %.0f bytes of a node without viewers",
				m.Memory, m.Headroom, c.Node)
		}
		if load := b.Need / b.PerNode; load > first {
			first, p.First = load, b.Name
		}
		p.Nodes = max(p.Nodes, b.Nodes)
	}
	if p.Nodes += m.Spare; !d.WithoutRedis {
		p.addRedis(d, &c, arrivals+zaps)
		// A Redis server uses one core, and may have as much memory as a node.
		p.RedisServers = max(1, int(math.Ceil(max(p.total("redis cpu")/free, p.total("redis memory")/(m.Memory*free)))))
	}
	return p, nil
}

// addNode adds what the nodes together need.
func (p *Plan) addNode(d Demand, c *Costs, openings float64) {
	viewers := float64(d.Viewers)
	perSegment := viewers / d.Segment.Seconds()
	bytes := viewers * d.Bitrate / 8
	cpu := func(name string, rate, micros float64) { p.add("cpu", name, rate, micros, rate*micros/1e6, "cores") }
	switch {
	case d.EdgeKeepsAnswers:
		cpu("questions of edges", viewers/d.Validity.Seconds(), c.AuthQuestion)
	case d.IsEdge:
		const playlistAndSegment = 2
		cpu("questions of edges", playlistAndSegment*perSegment, c.AuthQuestion)
	default:
		cpu("playlists", perSegment, c.Playlist)
		cpu("segments", perSegment, c.Segment)
		cpu("megabytes of segments", bytes/1e6, c.SegmentMegabyte)
		p.add("network", "streams", viewers, d.Bitrate, viewers*d.Bitrate, "bit/s")
		p.add("memory", "connections", viewers, c.Connection, viewers*c.Connection, "bytes")
	}
	rechecks := d.rechecks()
	if d.WithoutRedis {
		cpu("openings", openings, c.OpeningAlone)
		cpu("re-checks", rechecks, c.RecheckAlone)
	} else {
		cpu("openings", openings, c.Opening)
		cpu("re-checks", rechecks, c.Recheck)
		cpu("heartbeats", viewers/d.Heartbeat.Seconds(), c.Heartbeat)
		cpu("heartbeats of users with a limit", viewers*d.Limited/d.Heartbeat.Seconds(), c.LimitedHeartbeat)
		if stored, _ := d.edgeTickets(openings); stored > 0 {
			cpu(edgeTickets, stored, max(0, c.Opening-c.OpeningAlone))
		}
	}
	p.add("memory", "sessions", viewers, c.Session, viewers*c.Session, "bytes")
	if left := d.leftSessions(); left > 0 {
		p.add("memory", "sessions of channels that were left", left, c.Session, left*c.Session, "bytes")
	}
}

// addRedis adds what all Redis servers together need.
func (p *Plan) addRedis(d Demand, c *Costs, openings float64) {
	viewers := float64(d.Viewers)
	cpu := func(name string, rate, micros float64) {
		p.add("redis cpu", name, rate, micros, rate*micros/1e6, "cores")
	}
	cpu("openings", openings, c.RedisOpening)
	cpu("re-checks", d.rechecks(), c.RedisRecheck)
	cpu("heartbeats", viewers/d.Heartbeat.Seconds(), c.RedisHeartbeat)
	cpu("heartbeats of users with a limit", viewers*d.Limited/d.Heartbeat.Seconds(), c.RedisLimitedHeartbeat)
	p.add("redis memory", "sessions", viewers, c.RedisSession, viewers*c.RedisSession, "bytes")
	if left := d.leftRecords(); left > 0 {
		p.add("redis memory", "sessions of channels that were left", left, c.RedisSession, left*c.RedisSession, "bytes")
	}
	if stored, kept := d.edgeTickets(openings); stored > 0 {
		cpu(edgeTickets, stored, c.RedisOpening)
		p.add("redis memory", edgeTickets, kept, edgeTicketBytes, kept*edgeTicketBytes, "bytes")
	}
}

// edgeTickets is what nodes share of viewers who show edges nothing: see package cluster/matches. Those of one take Redis as much time as an
// opening, and edgeTicketBytes of its memory: BenchmarkSharing there.
const edgeTickets, edgeTicketBytes = "tickets of viewers at edges", 700.0

// edgeTickets returns how many are stored in a second, new ones and again, and of how many viewers and channels Redis has some.
func (d *Demand) edgeTickets(openings float64) (stored, kept float64) {
	if !d.IsEdge || d.EdgeKeepsAnswers {
		return 0, 0
	}
	const again, ttl = 600, 1800 // s: tellInterval of package gateway/edge, and ttl of package cluster/matches
	viewers := float64(d.Viewers)
	return openings + viewers/again, viewers + d.zaps()*ttl
}

func (p *Plan) add(of, name string, count, cost, value float64, unit string) {
	p.Products = append(p.Products, Product{of, name, count, cost, value, unit})
}

func (p *Plan) total(of string) (sum float64) {
	for _, one := range p.Products {
		if one.Of == of {
			sum += one.Value
		}
	}
	return sum
}

func newBound(name, unit string, need, perNode float64) Bound {
	b := Bound{Name: name, Need: need, PerNode: perNode, Unit: unit}
	if perNode > 0 {
		b.Nodes = max(1, int(math.Ceil(need/perNode)))
	}
	return b
}
