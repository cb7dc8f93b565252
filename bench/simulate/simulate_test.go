package simulate

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"usher/backends"
	"usher/bench/record"
	"usher/bench/result"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smallConfig returns fifty thousand viewers on four nodes, whose middleware refuses for four minutes.
func smallConfig() Config {
	c := DefaultConfig()
	c.Viewers, c.Sample, c.Nodes, c.RecheckRate = 50_000, 500, 4, 300
	c.Arrive, c.From, c.Length, c.For = time.Minute, 5*time.Minute, 4*time.Minute, 12*time.Minute
	c.Bad = 0.1
	return c
}

// simulated is what a simulation found.
type simulated struct {
	result.Measurement
	t       *testing.T
	seconds []record.Snapshot
}

// simulate runs a config in a bubble.
func simulate(t *testing.T, c Config) *simulated {
	t.Helper()
	s := &simulated{t: t}
	synctest.Test(t, func(t *testing.T) {
		run, err := run(t.Context(), c, c.Nodes, func(snapshot record.Snapshot) { s.seconds = append(s.seconds, snapshot) })
		if err != nil {
			t.Fatal(err)
		}
		s.Measurement = run.Measurements[0]
	})
	for _, a := range s.Assertions {
		if !a.Kept {
			t.Errorf("%s: got %s", a.Text, a.Got)
		}
	}
	return s
}

// at returns a line's value at a time.
func (s *simulated) at(line string, elapsed time.Duration) float64 {
	return s.seconds[int(elapsed.Seconds())-1].Values[line]
}

// mean returns a line's mean between two times.
func (s *simulated) mean(line string, from, to time.Duration) (mean float64) {
	for elapsed := from + time.Second; elapsed <= to; elapsed += time.Second {
		mean += s.at(line, elapsed) / (to - from).Seconds()
	}
	return mean
}

// near reports a value that is further than a share from what is wanted.
func (s *simulated) near(what string, got, want, share float64) {
	s.t.Helper()
	if math.Abs(got-want) > share*want {
		s.t.Errorf("%s: %.0f, want %.0f ± %.0f %%", what, got, want, 100*share)
	}
}

// TestRun_Refuses follows an outage from before to after.
func TestRun_Refuses(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	s := simulate(t, c)
	good := float64(c.Viewers) * (1 - c.Bad)
	s.near("viewers before", s.at("viewers.alive", c.From), good, 0.1)
	// A renewal comes up to 10 % early.
	s.near("calls before", s.mean("middleware.calls", 2*time.Minute, c.From), good/(0.95*c.Validity.Seconds())+float64(c.Viewers)/c.Watch.Seconds(), 0.15)
	end := c.From + c.Length
	if got := s.mean("middleware.calls", c.From+10*time.Second, end); got > float64(c.Nodes) {
		t.Errorf("%.0f calls a second in the outage, want at most a probe of each node", got)
	}
	if alive, unverified := s.at("viewers.alive", end), s.at("viewers.unverified", end); unverified != alive || alive < 0.98*good {
		t.Errorf("%.0f viewers at the end of the outage, %.0f without an answer; want all of about %.0f", alive, unverified, good)
	}
	arrivals := float64(c.Viewers) * c.Length.Seconds() / c.Watch.Seconds()
	s.near("viewers admitted without an answer", s.Counts["admissions.unverified"], arrivals, 0.3)
	s.near("free rides", s.Counts["free_rides"], arrivals*c.Bad, 0.9)
	if s.at("free_riders", end) == 0 || s.at("viewers.unverified", c.For) != 0 || s.at("free_riders", c.For) != 0 {
		t.Errorf("free riders: %.0f in the outage, %.0f afterwards, %.0f viewers without an answer; want some, none and none",
			s.at("free_riders", end), s.at("free_riders", c.For), s.at("viewers.unverified", c.For))
	}
	hours := s.Counts["free_rides.hours"]
	s.near("bytes", s.Counts["free_rides.bytes"], hours*3600*c.Bitrate/8, 1e-9)
	if most := s.Counts["free_rides"] * (c.Length + time.Minute).Hours(); hours <= 0 || hours > most {
		t.Errorf("%.1f hours of free rides, want at most %.1f", hours, most)
	}
	if len(s.Faults) != 1 || s.Faults[0].From != c.From.Seconds() || s.Faults[0].To != end.Seconds() {
		t.Errorf("faults %+v", s.Faults)
	}
}

// TestRun_Hang has viewers wait for no longer than answer_deadline.
func TestRun_Hang(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	c.Outage = OutageHang
	s := simulate(t, c)
	o := s.Operations[result.Opening]
	if longest := o.Latency.Max(); longest < time.Second || longest > 1100*time.Millisecond || o.Failed() != 0 {
		t.Errorf("the longest wait was %v, and %d viewers were not answered; want the second of answer_deadline, and none", longest, o.Failed())
	}
	if s.Counts["free_rides"] == 0 || s.at("viewers.unverified", c.For) != 0 {
		t.Errorf("counts %v, %.0f without an answer at the end", s.Counts, s.at("viewers.unverified", c.For))
	}
}

// TestRun_Hop has the middleware asked as often as without: nodes share decisions.
func TestRun_Hop(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	c.Nodes = 8
	c.Outage, c.For = OutageNone, 8*time.Minute
	staying := simulate(t, c)
	c.Hop = 20 * time.Second
	hopping := simulate(t, c)
	hopping.near("calls", hopping.Counts["middleware.calls"], staying.Counts["middleware.calls"], 0.1)
	if hopping.Counts["decisions.backend"] < 2*staying.Counts["decisions.backend"] {
		t.Errorf("nodes took %.0f decisions, %.0f without hops; want many more", hopping.Counts["decisions.backend"], staying.Counts["decisions.backend"])
	}
}

// TestRun_Streams has users share accounts that are good for one stream.
func TestRun_Streams(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	c.Outage, c.Streams, c.Shared, c.Bad, c.For = OutageNone, 1, 0.2, 0, 6*time.Minute
	s := simulate(t, c)
	users := map[string]bool{}
	for slot := range uint32(c.Sample) {
		users[viewerNumber{slot: slot}.user(&c)] = true
	}
	if len(users) > c.Sample*9/10 {
		t.Fatalf("%d users of %d viewers share too little", len(users), c.Sample)
	}
	s.near("streams that play", s.at("viewers.alive", c.For), float64(len(users))*c.factor(), 0.05)
	if s.Counts["denials.limit"] == 0 {
		t.Error("nobody was refused by a limit")
	}
}

// TestRun_Policies says whom an outage refuses.
func TestRun_Policies(t *testing.T) {
	t.Parallel()
	for policy, want := range map[backends.Policy]string{backends.PolicyKeep: "status 503", backends.PolicyDeny: "denials.good"} {
		c := smallConfig()
		c.OnFailure = policy
		s := simulate(t, c)
		errs := s.Operations[result.Opening].Errors
		if s.Counts["free_rides"] != 0 || (errs[want] == 0 && s.Counts[want] == 0) {
			t.Errorf("%v: %v free riders, errors %v, counts %v; want none, and some %q", policy, s.Counts["free_rides"], errs, s.Counts, want)
		}
	}
}

// TestRun_Capacity has a middleware that cannot answer all who come: viewers go on, without an answer.
func TestRun_Capacity(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	c.Outage, c.Capacity, c.For = OutageNone, 150, 6*time.Minute
	s := simulate(t, c)
	if got := s.mean("middleware.calls", 2*time.Minute, c.For); got > 1.2*float64(c.Capacity) {
		t.Errorf("%.0f calls a second, though it can answer %d", got, c.Capacity)
	}
	if s.Counts["admissions.unverified"] == 0 {
		t.Error("no viewer was admitted without an answer")
	}
}

// TestRun_Assertions_Fail has each node take the whole rate of re-checks.
func TestRun_Assertions_Fail(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	synctest.Test(t, func(t *testing.T) {
		r, err := run(t.Context(), c, 1, func(record.Snapshot) {})
		if err != nil {
			t.Fatal(err)
		}
		if failed := r.Failed(); len(failed) != 1 || !strings.Contains(failed[0].Text, "recheck_rate") {
			t.Errorf("failed: %v, want the rate of re-checks", failed)
		}
	})
}

// TestRun_Sample has samples of two sizes agree.
func TestRun_Sample(t *testing.T) {
	t.Parallel()
	c := smallConfig()
	small := simulate(t, c)
	c.Sample *= 3
	large := simulate(t, c)
	for _, name := range []string{"middleware.calls", "admissions.unverified", "unverified.hours"} {
		large.near(name, small.Counts[name], large.Counts[name], 0.2)
	}
}

// TestRun_Interrupted returns what was found until then.
func TestRun_Interrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	synctest.Test(t, func(t *testing.T) {
		r, err := Run(ctx, smallConfig(), func(s record.Snapshot) {
			if s.Elapsed == time.Minute {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || r.Measurements[0].Seconds != 60 {
			t.Errorf("%v after %v s", err, r.Measurements[0].Seconds)
		}
	})
}

// TestConfig_NextRecheckRate has the rate that is advised be the next that is taken.
func TestConfig_NextRecheckRate(t *testing.T) {
	t.Parallel()
	for _, viewers := range []int{150_000, 250_000, 110_000, 190_000, 1_000_000, 99_999_999} {
		for rate := range 3000 {
			c := DefaultConfig()
			c.Viewers, c.Sample, c.RecheckRate = viewers, 100_000, rate
			if c.sampleRecheckRate() == 0 || c.takesRecheckRate() {
				continue
			}
			next := c.nextRecheckRate()
			for c.RecheckRate++; c.RecheckRate < next && !c.takesRecheckRate(); {
				c.RecheckRate++
			}
			if c.RecheckRate != next || !c.takesRecheckRate() {
				t.Fatalf("%d viewers, a sample of %d: %d is advised in place of %d, and %d would be the next", viewers, c.Sample, next, rate, c.RecheckRate)
			}
		}
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(c *Config){
		"--nodes=0: want at least 1":                                func(c *Config) { c.Nodes = 0 },
		"--sample=0: want 1 to --viewers=10000000":                  func(c *Config) { c.Sample = 0 },
		"--recheck-rate=200: it is 0.4/s for a sample of 20000":     func(c *Config) { c.RecheckRate = 200 },
		"raise --sample, or take 1000":                              func(c *Config) { c.RecheckRate = 900 },
		"--recheck-rate=0: want at least 1":                         func(c *Config) { c.RecheckRate = 0 },
		"--capacity=100: it is 0.2/s":                               func(c *Config) { c.Capacity = 100 },
		"--bad=1.5: want 0 to 1":                                    func(c *Config) { c.Bad = 1.5 },
		"--shared=0.1: without --streams nobody is too many":        func(c *Config) { c.Shared = 0.1 },
		"--streams=-1: want at least 0":                             func(c *Config) { c.Streams = -1 },
		"--bitrate=NaN: want more than 0":                           func(c *Config) { c.Bitrate = math.NaN() },
		"--segment=1m0s: want at most 30s":                          func(c *Config) { c.Segment = time.Minute },
		"--watch=0s: want more than 0":                              func(c *Config) { c.Watch = 0 },
		"--latency=2s: want less than the timeout of 2s":            func(c *Config) { c.Latency = 2 * time.Second },
		"--hop=-1s: want at least 0s":                               func(c *Config) { c.Hop = -time.Second },
		"--outage=explode: want none, refuse, hang or error":        func(c *Config) { c.Outage = "explode" },
		"--outage-for=500ms: want at least 1s":                      func(c *Config) { c.From, c.Length = 3*time.Second, 500*time.Millisecond },
		"--for=10s: want more than 10s":                             func(c *Config) { c.Outage, c.For = OutageNone, 10*time.Second },
		"--outage-for=1h0m0s from --outage-at=20m0s: the outage mu": func(c *Config) { c.Length = time.Hour },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s…", err, want)
		}
	}
	if c := DefaultConfig(); c.Validate() != nil || len(slices.Collect(maps.Keys(c.settings()))) != 21 {
		t.Errorf("the defaults: %v, %d settings", c.Validate(), len(c.settings()))
	}
}
