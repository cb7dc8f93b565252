package simulate

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"usher/backends"
	"usher/backends/chain"
)

// Config is what is simulated. [DefaultConfig] has the defaults.
type Config struct {
	// Viewers watch at once on Nodes nodes. Sample of them are simulated.
	Viewers, Nodes, Sample int
	// Arrive is the time in which the first viewers come. Each watches for Watch on average, then another one comes.
	Arrive, Watch time.Duration
	// Hop is how long on average until a viewer's requests reach another node; zero: never.
	Hop time.Duration
	// Segment is how often a viewer asks, Bitrate what they are sent, in bit/s.
	Segment time.Duration
	Bitrate float64
	// Bad is the share of viewers whom the middleware denies.
	Bad float64
	// Streams is how many streams a user may play at once; zero: any number. Shared is the share of viewers who use the account of
	// another one.
	Streams int
	Shared  float64

	// Validity is how long an answer holds. RecheckRate is the backend's recheck_rate, of all nodes together. OnFailure is its
	// outage policy.
	Validity    time.Duration
	RecheckRate int
	OnFailure   backends.Policy

	// Latency is how long the middleware takes, Capacity how many calls a second it can answer; zero: any number.
	Latency  time.Duration
	Capacity int
	// Outage is what the middleware does from From on, for Length.
	Outage Outage
	From   time.Duration
	Length time.Duration

	// For is the simulated time.
	For time.Duration
	// Seed is what chance is drawn from.
	Seed int
}

// DefaultConfig returns ten million viewers on a hundred nodes, whose middleware refuses for ten minutes.
func DefaultConfig() Config {
	return Config{
		Viewers: 10_000_000, Nodes: 100, Sample: 20_000, Arrive: 10 * time.Minute, Watch: 40 * time.Minute,
		Segment: 4 * time.Second, Bitrate: 6e6, Bad: 0.02,
		Validity: 3 * time.Minute, RecheckRate: 60_000, OnFailure: backends.PolicyAllow,
		Latency: 20 * time.Millisecond, Outage: OutageRefuse, From: 20 * time.Minute, Length: 10 * time.Minute,
		For: 45 * time.Minute, Seed: 1,
	}
}

// Outage is what a middleware does in an outage.
type Outage string

// The outages.
const (
	OutageNone   Outage = "none"
	OutageRefuse Outage = "refuse" // no connection
	OutageHang   Outage = "hang"   // connections, and no answer
	OutageError  Outage = "error"  // status 500
)

// factor is for how many viewers one of the sample stands.
func (c *Config) factor() float64 { return float64(c.Viewers) / float64(c.Sample) }

// Validate reports everything wrong, by the names of the command's flags.
func (c *Config) Validate() error {
	var errs faults
	c.validateSample(&errs)
	for name, share := range map[string]float64{"bad": c.Bad, "shared": c.Shared} {
		errs.add(!(share >= 0 && share <= 1), "--%s=%v: want 0 to 1", name, share)
	}
	errs.add(c.Shared > 0 && c.Streams == 0, "--shared=%v: without --streams nobody is too many", c.Shared)
	errs.add(c.Streams < 0, "--streams=%d: want at least 0", c.Streams)
	errs.add(!(c.Bitrate > 0), "--bitrate=%v: want more than 0", c.Bitrate)
	for name, d := range map[string]time.Duration{
		"for": c.For, "segment": c.Segment, "watch": c.Watch, "validity": c.Validity, "latency": c.Latency, "arrive": c.Arrive,
	} {
		errs.add(d <= 0, "--%s=%v: want more than 0", name, d)
	}
	errs.add(c.Segment > maxSegment, "--segment=%v: want at most %v", c.Segment, maxSegment)
	timeout := chain.DefaultConfig().Timeout
	errs.add(c.Latency >= timeout, "--latency=%v: want less than the timeout of %v", c.Latency, timeout)
	errs.add(c.Hop < 0, "--hop=%v: want at least 0s", c.Hop)
	isKnown := slices.Contains([]Outage{OutageNone, OutageRefuse, OutageHang, OutageError}, c.Outage)
	errs.add(!isKnown, "--outage=%s: want none, refuse, hang or error", c.Outage)
	errs.add(c.Outage != OutageNone && (c.From < 0 || c.Length <= 0 || c.From+c.Length > c.For),
		"--outage-for=%v from --outage-at=%v: the outage must end within --for=%v", c.Length, c.From, c.For)
	errs.add(c.Outage != OutageNone && c.Length < time.Second, "--outage-for=%v: want at least 1s: it begins and ends on a whole second", c.Length)
	errs.add(c.For <= peakWindow*time.Second, "--for=%v: want more than %ds, over which a peak of re-checks is taken", c.For, peakWindow)
	return errors.Join(errs...)
}

// validateSample reports a sample that is too small for what it stands for.
func (c *Config) validateSample(errs *faults) {
	errs.add(c.Nodes < 1, "--nodes=%d: want at least 1", c.Nodes)
	errs.add(c.RecheckRate == 0, "--recheck-rate=0: want at least 1")
	if c.Sample < 1 || c.Sample > c.Viewers {
		errs.add(true, "--sample=%d: want 1 to --viewers=%d", c.Sample, c.Viewers)
		return
	}
	for name, rate := range map[string]int{"recheck-rate": c.RecheckRate, "capacity": c.Capacity} {
		share := float64(rate) / c.factor()
		errs.add(rate < 0 || rate > 0 && share < 1,
			"--%s=%d: it is %.2g/s for a sample of %d, want at least 1/s; raise --sample", name, rate, share, c.Sample)
	}
	share := float64(c.RecheckRate) / c.factor()
	errs.add(share >= 1 && !c.takesRecheckRate(),
		"--recheck-rate=%d: it is %.3g/s for a sample of %d, and a node's is a whole number; raise --sample, or take %d",
		c.RecheckRate, share, c.Sample, c.nextRecheckRate())
}

// takesRecheckRate reports whether little of the sample's recheck rate is lost by rounding it down.
func (c *Config) takesRecheckRate() bool {
	return float64(c.sampleRecheckRate()) >= (1-roundedOff)*float64(c.RecheckRate)/c.factor()
}

// nextRecheckRate returns the lowest recheck rate above the present one that is taken. With as much as the sample's is, it is near.
func (c *Config) nextRecheckRate() int {
	next := *c
	for n := c.sampleRecheckRate() + 1; !next.takesRecheckRate(); n++ {
		next.RecheckRate = (n*c.Viewers + c.Sample - 1) / c.Sample
	}
	return next.RecheckRate
}

// roundedOff is the share of the recheck rate that may be lost by rounding it down. The peak of re-checks is held against the whole rate.
const roundedOff = 0.05

// sampleRecheckRate returns the part of the recheck rate that is the sample's.
func (c *Config) sampleRecheckRate() int {
	return int(int64(c.RecheckRate) * int64(c.Sample) / int64(c.Viewers))
}

// faults are what is wrong with a config.
type faults []error

func (f *faults) add(isWrong bool, format string, args ...any) {
	if isWrong {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

// maxSegment keeps viewers from being idle between two requests.
const maxSegment = 30 * time.Second
