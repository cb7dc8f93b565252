package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"usher/bench/plan"
)

// planCmd prints what so many viewers need.
type planCmd struct {
	Viewers   int           `help:"How many watch at once." required:""`
	Validity  time.Duration `help:"How long an answer of the middleware holds." default:"180s"`
	Segment   time.Duration `help:"The length of a segment." default:"4s"`
	Bitrate   quantity      `help:"Of one stream, in bit/s." default:"6M"`
	Ramp      time.Duration `help:"The time in which all viewers arrive." default:"10m"`
	Zaps      float64       `help:"How often a viewer goes to another channel in an hour." default:"4"`
	Idle      time.Duration `name:"idle-timeout" help:"The setting sessions.idle_timeout: for how long a channel that was left stays a session." default:"1m"`
	TTL       time.Duration `name:"session-ttl" help:"The setting cluster.session_ttl: for how long Redis keeps a session after its decision." default:"30m"`
	Limited   float64       `help:"The share of viewers whose user has a stream limit, 0 to 1." default:"0"`
	Edge      bool          `help:"Other servers serve the media, and ask about each request, as nginx, Caddy, Traefik, HAProxy and Envoy do."`
	Keeps     bool          `name:"edge-keeps-answers" help:"With --edge: they ask about a viewer once an answer has expired, as Astra, Alta and Flussonic do."`
	Extra     time.Duration `name:"extra-lifetime" help:"With --edge: the setting edge.extra_lifetime, for how long a session outlives its decision." default:"1m"`
	Redis     bool          `help:"The nodes share decisions by Redis." default:"true" negatable:""`
	Heartbeat time.Duration `help:"The setting cluster.heartbeat_interval." default:"20s"`

	Cores       float64  `help:"Of a node." default:"32"`
	Memory      quantity `help:"Of a node, in bytes." default:"64G"`
	Network     quantity `help:"Of a node, in bit/s." default:"25G"`
	MaxSessions int      `help:"The setting sessions.max." default:"1200000"`
	Headroom    float64  `help:"The share of a node that is left free, 0 to less than 1." default:"0.3"`
	Spare       int      `help:"Nodes that may fail without harm." default:"1"`

	Costs string `help:"A file of costs. Default: those of the reference machine." placeholder:"FILE"`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// quantity is a number that may end with k, M, G or T.
type quantity float64

// errQuantity is wrapped by the error of what is no quantity.
var errQuantity = errors.New("want a number such as 6000000, 6M or 2.5G")

// UnmarshalText reads a quantity.
func (q *quantity) UnmarshalText(text []byte) error {
	digits, scale := string(text), 1.0
	for suffix, size := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} {
		if without, found := strings.CutSuffix(digits, suffix); found {
			digits, scale = without, size
			break
		}
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return fmt.Errorf("%q: %w", text, errQuantity)
	}
	*q = quantity(v * scale)
	return nil
}

// Run prints the plan.
func (c *planCmd) Run() error {
	costs, err := c.costs()
	if err != nil {
		return err
	}
	p, err := plan.Make(plan.Demand{
		Viewers: c.Viewers, Validity: c.Validity, Segment: c.Segment, Bitrate: float64(c.Bitrate), Ramp: c.Ramp, ZapsPerHour: c.Zaps,
		IdleTimeout: c.Idle, SessionTTL: c.TTL, ExtraLifetime: c.Extra,
		Limited: c.Limited, IsEdge: c.Edge, EdgeKeepsAnswers: c.Keeps, WithoutRedis: !c.Redis, Heartbeat: c.Heartbeat,
	}, plan.Machine{
		Cores: c.Cores, Memory: float64(c.Memory), Network: float64(c.Network), MaxSessions: c.MaxSessions, Headroom: c.Headroom, Spare: c.Spare,
	}, costs)
	switch {
	case err != nil:
		return err
	case c.JSON:
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", " ")
		return e.Encode(p)
	}
	return p.Print(os.Stdout, c.Spare, costs)
}

func (c *planCmd) costs() (plan.Costs, error) {
	if c.Costs == "" {
		return plan.Reference()
	}
	f, err := os.Open(c.Costs)
	if err != nil {
		return plan.Costs{}, fmt.Errorf("--costs: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	costs, err := plan.ReadCosts(f)
	if err != nil {
		return costs, fmt.Errorf("--costs=%s: %w", c.Costs, err)
	}
	return costs, nil
}
