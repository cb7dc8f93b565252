package scenario

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"usher/bench/pace"
	"usher/bench/rig"
	"usher/bench/viewer"
	"usher/bench/viewer/edge"
)

// paces are the ways to start all viewers within arrive.
func (s *Scenario) pace() (pace.Pace, error) {
	within := s.Arrive.Of(s.For)
	if within == 0 && (s.Pace == "ramp" || s.Pace == "steps") {
		return nil, fmt.Errorf("arrive: 0s with pace: %s: want a time in which the viewers start, or pace: at once", s.Pace)
	}
	rate := float64(s.Viewers) / max(within.Seconds(), 1e-3)
	switch s.Pace {
	case "constant":
		return pace.Constant(rate), nil
	case "ramp":
		const triangle = 2
		return pace.Parse(fmt.Sprintf("ramp 0..%f/s over %s", triangle*rate, within))
	case "steps":
		// A quarter of the time each, at rates of 1 to 4: ten parts.
		const steps = 4
		unit := rate * steps / (1 + 2 + 3 + 4)
		return pace.Parse(fmt.Sprintf("steps %f/s, %f/s, %f/s, %f/s every %s", unit, 2*unit, 3*unit, 4*unit, within/steps))
	case "poisson":
		return pace.Poisson(rate, uint64(s.Seed)), nil
	case "at once":
		return pace.AtOnce(s.Viewers), nil
	}
	p, err := pace.Parse(s.Pace)
	if err != nil {
		return nil, fmt.Errorf("pace: %q: want constant, ramp, steps, poisson or at once; or a rate: %w", s.Pace, err)
	}
	return p, nil
}

// parts is in how many parts shares of viewers are told.
const parts = 1000

// isBad reports whether the middleware denies a viewer. The bad ones are spread evenly.
func (s *Scenario) isBad(viewer int) bool {
	const spread = 619 // has no factor in common with parts
	return float64(viewer*spread%parts) < s.Bad*parts
}

// viewers returns what the viewers do, without targets.
func (s *Scenario) viewers() (viewer.Config, error) {
	c := viewer.DefaultConfig()
	var errs []error
	var err error
	if c.Pace, err = s.pace(); err != nil {
		errs = append(errs, err)
	}
	if s.Sources != "" {
		if c.Sources, err = netip.ParsePrefix(s.Sources); err != nil {
			errs = append(errs, fmt.Errorf("sources: %w", err))
		}
	}
	if s.Forwarded {
		c.Forwarded = netip.MustParsePrefix("10.0.0.0/8")
	}
	c.Channels = nil
	for i := range s.Channels {
		c.Channels = append(c.Channels, fmt.Sprintf("ch%d", i+1))
	}
	c.Path, c.Viewers, c.MaxAlive, c.MaxInFlight = s.Path, s.Viewers, s.MaxAlive, s.MaxInFlight
	c.Seed, c.Light, c.SegmentEvery, c.HTTP2, c.Timeout, c.TraceShare = uint64(s.Seed), s.Light, s.SegmentEvery, s.HTTP2, s.Timeout, s.Trace
	c.Token = s.tokens("")
	c.IsBad = s.isBad
	c.Behaviour = s.behaviour()
	if s.Dialect != "" {
		c.Auth = &viewer.Auth{Dialect: edge.Dialect(s.Dialect), Path: "/", Every: s.AuthEvery.Of(s.For)}
	}
	check := c
	check.Targets = []string{"http://127.0.0.1"}
	return c, errors.Join(append(errs, check.Validate())...)
}

// tokens returns the tokens of the viewers of a run, whose word is in each.
func (s *Scenario) tokens(word string) func(viewer int) string {
	return func(n int) string {
		if s.isBad(n) {
			return rig.BadToken + word + strconv.Itoa(n)
		}
		return "good-" + word + strconv.Itoa(n)
	}
}

func (s *Scenario) behaviour() viewer.Behaviour {
	return viewer.Behaviour{
		Watch: s.Watch.Of(s.For), Away: s.Away.Of(s.For), Zap: s.Zap.Of(s.For), Pause: s.Pause.Of(s.For), PauseFor: s.PauseFor.Of(s.For),
		Roam: s.Roam.Of(s.For), Hop: s.Hop.Of(s.For), Multivariant: s.Multivariant, Buffer: s.Buffer,
		Retry: s.Retry, RetryDenied: s.RetryDenied, GiveUp: s.GiveUp,
	}
}
