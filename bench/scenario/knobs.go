package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"usher/backends/setting"
)

// Knobs are what all scenarios have.
type Knobs struct {
	// The viewers.
	Viewers, Channels, MaxAlive, MaxInFlight, SegmentEvery, Buffer, GiveUp, Seed int

	Pace                              string
	For, Retry, RetryDenied, Timeout  time.Duration
	Arrive, WarmUp, Settle            Span
	Watch, Away, Zap, Pause, PauseFor Span
	Roam, Hop                         Span
	Bad, Multivariant, Trace          float64
	Light, HTTP2, TLS, Forwarded      bool
	Path, Sources                     string

	// What edges ask; empty: viewers play.
	Dialect   string
	AuthEvery Span

	// The servers.
	Nodes, RecheckRate int
	Redis, Balancer    bool
	SegmentSize        int
	Segment, Latency   time.Duration
	Validity           Span
	OnFailure          string
}

func defaultKnobs() Knobs {
	return Knobs{
		Viewers: 500, Channels: 10, MaxInFlight: 10_000, Buffer: 1, GiveUp: 5, Seed: 1, Pace: "constant", For: time.Minute,
		Retry: time.Second, RetryDenied: 4 * time.Second, Timeout: 10 * time.Second, Arrive: Span{share: 0.2}, WarmUp: Span{share: 0.1},
		Settle: Span{fixed: 2 * time.Second}, PauseFor: Span{share: 0.1}, Multivariant: 0, Forwarded: true,
		Path: "/play/{channel}/index.m3u8?token={token}", AuthEvery: Span{fixed: 4 * time.Second},
		Nodes: 1, RecheckRate: 200, Segment: 2 * time.Second, Latency: 20 * time.Millisecond, Validity: Span{share: 0.3}, OnFailure: "allow",
	}
}

// Knob is a setting by its name.
type Knob struct {
	Name, Help string
	set        func(text string) error
	get        func() string
	// number is its value in an expectation: durations in seconds.
	number func() float64
	unit   string
}

// knobs returns all knobs in the order of help.
func (k *Knobs) knobs() []Knob {
	return []Knob{
		count("viewers", "How many viewers start in all.", &k.Viewers, 1),
		text("pace", `How they start: constant, ramp, steps, poisson or "at once" over arrive; or a rate such as "50/s", "ramp 0..500/s over 30s".`, &k.Pace),
		k.span("arrive", "The time in which all of them start, unless pace is a rate.", &k.Arrive),
		duration("for", "The length of a measurement.", &k.For),
		k.span("warm_up", "The beginning that is not in the phase quiet.", &k.WarmUp),
		k.span("settle", "The time after the last fault that is not in the phase after.", &k.Settle),
		count("channels", "How many channels they watch.", &k.Channels, 1),
		share("bad", "The share of viewers whom the middleware denies.", &k.Bad),
		k.span("watch", "How long a viewer stays on average; 0s: to the end.", &k.Watch),
		k.span("away", "How long until they come back on average; 0s: they do not.", &k.Away),
		k.span("zap", "How long until a viewer changes the channel on average; 0s: never.", &k.Zap),
		k.span("pause", "How long until a viewer pauses on average; 0s: never.", &k.Pause),
		k.span("pause_for", "How long a pause lasts on average.", &k.PauseFor),
		k.span("roam", "How long until a viewer's address changes on average; 0s: never.", &k.Roam),
		k.span("hop", "How long until a viewer's requests reach another node on average; 0s: never.", &k.Hop),
		duration("retry", "How long after a failure a viewer tries again.", &k.Retry),
		duration("retry_denied", "The same after a denial.", &k.RetryDenied),
		count("give_up", "After how many failures in a row a viewer opens the entry URL again.", &k.GiveUp, 1),
		share("multivariant", "The share of viewers who reload the multivariant playlist too.", &k.Multivariant),
		count("buffer", "How many segments a viewer fetches at the start.", &k.Buffer, 0),
		count("segment_every", "Fetch one in so many new segments; 0: all, or with light none.", &k.SegmentEvery, 0),
		flag("light", "Playlists alone, over a few connections that all viewers share.", &k.Light),
		flag("http2", "Speak HTTP/2.", &k.HTTP2),
		flag("tls", "The nodes speak TLS, of HTTP/1.1 and HTTP/2.", &k.TLS),
		flag("forwarded", "Tell an address of each viewer with X-Forwarded-For.", &k.Forwarded),
		text("sources", "Local addresses to connect from, such as 127.1.0.0/16; empty: the system chooses.", &k.Sources),
		text("path", "The entry URL below a target.", &k.Path),
		duration("timeout", "The bound of a request.", &k.Timeout),
		count("max_alive", "The most viewers at once; 0: viewers.", &k.MaxAlive, 0),
		count("max_in_flight", "The most requests in flight.", &k.MaxInFlight, 1),
		count("seed", "What chance is drawn from.", &k.Seed, 0),
		share("trace", "The share of requests with a traceparent.", &k.Trace),
		text("dialect", "Ask as an edge of this dialect in place of playing: nginx, traefik, caddy, astra, alta, flussonic or envoy.", &k.Dialect),
		k.span("auth_every", "The time between two questions of an edge about a viewer.", &k.AuthEvery),
		count("nodes", "How many nodes of Usher the harness runs.", &k.Nodes, 1),
		flag("redis", "Run redis-server, which the nodes share.", &k.Redis),
		flag("balancer", "Put a balancer before the nodes; else viewers are spread over them.", &k.Balancer),
		duration("segment", "The length of a segment: 1s, 2s, 3s, 4s, 6s or 12s.", &k.Segment),
		size("segment_size", "The least size of a segment.", &k.SegmentSize),
		duration("middleware_latency", "How long the middleware takes to answer.", &k.Latency),
		k.span("validity", "How long an answer of the middleware holds.", &k.Validity),
		count("recheck_rate", "The backend's recheck_rate.", &k.RecheckRate, 1),
		text("on_failure", "The backend's outage policy: allow, keep or deny.", &k.OnFailure),
	}
}

// number is an unlimited count with a least value.
func count(name, help string, n *int, least int) Knob {
	return Knob{
		Name: name, Help: help, get: func() string { return strconv.Itoa(*n) }, number: func() float64 { return float64(*n) },
		set: func(text string) error {
			got, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
			if err != nil || got < least {
				return fmt.Errorf("want a whole number of at least %d", least)
			}
			*n = got
			return nil
		},
	}
}

func size(name, help string, n *int) Knob {
	return Knob{
		Name: name, Help: help, unit: "B",
		get: func() string { return setting.ByteSize(*n).String() }, number: func() float64 { return float64(*n) },
		set: func(text string) error {
			var got setting.ByteSize
			err := got.UnmarshalText([]byte(text))
			if err == nil {
				*n = int(got)
			}
			return err
		},
	}
}

func share(name, help string, n *float64) Knob {
	return Knob{
		Name: name, Help: help,
		get: func() string { return fmt.Sprintf("%g%%", *n*100) }, number: func() float64 { return *n },
		set: func(text string) error {
			percent, ok := strings.CutSuffix(text, "%")
			got, err := strconv.ParseFloat(percent, 64)
			if !ok && got != 0 || err != nil || got < 0 || got > 100 {
				return fmt.Errorf(`want a share such as "10%%"`)
			}
			*n = got / 100
			return nil
		},
	}
}

func duration(name, help string, d *time.Duration) Knob {
	return Knob{
		Name: name, Help: help, unit: "s",
		get: func() string { return d.String() }, number: func() float64 { return d.Seconds() },
		set: func(text string) error {
			got, err := time.ParseDuration(text)
			if err != nil || got <= 0 {
				return fmt.Errorf(`want a duration above 0 such as "10s"`)
			}
			*d = got
			return nil
		},
	}
}

func (k *Knobs) span(name, help string, s *Span) Knob {
	return Knob{
		Name: name, Help: help, unit: "s",
		get: func() string { return s.String() }, number: func() float64 { return s.Of(k.For).Seconds() },
		set: func(text string) (err error) {
			got, err := parseSpan(text)
			if err == nil {
				*s = got
			}
			return err
		},
	}
}

func flag(name, help string, b *bool) Knob {
	return Knob{
		Name: name, Help: help,
		get: func() string { return strconv.FormatBool(*b) },
		set: func(text string) error {
			if text != "true" && text != "false" {
				return fmt.Errorf("want true or false")
			}
			*b = text == "true"
			return nil
		},
	}
}

func text(name, help string, s *string) Knob {
	return Knob{
		Name: name, Help: help, get: func() string { return *s },
		set: func(text string) error { *s = text; return nil },
	}
}
