package simulate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"usher/backends"
	"usher/bench/process"
	"usher/bench/record"
	"usher/bench/result"
)

// Run simulates in fake time: it is called in a bubble of testing/synctest, see [InFakeTime]. show is told of each second. If ctx
// ends, what was found so far is returned with its error. The times of the result are those of the bubble, which begins in 2000.
func Run(ctx context.Context, c Config, show func(record.Snapshot)) (*result.Run, error) {
	return run(ctx, c, c.Nodes, show)
}

// run is Run with nodes that know of so many live ones.
func run(ctx context.Context, c Config, live int, show func(record.Snapshot)) (*result.Run, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	start := time.Now()
	recorder := record.New(start)
	s := &simulation{config: &c, recorder: recorder, tally: newTally(&c, recorder), middleware: &middleware{config: &c}, start: start}
	none := OutageNone
	s.middleware.outage.Store(&none)
	n, err := newNodes(&c, s.middleware, s.tally)
	if err != nil {
		return nil, err
	}
	n.live = live
	s.nodes, s.viewers = n, newAudience(&c, n, s.tally, start)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	breakers := make(chan error, 1)
	go func() { breakers <- n.run(life) }()
	err = s.play(ctx, life, show)
	ended := time.Now()
	end()
	s.tally.opening.Wait()
	n.close()
	err = errors.Join(err, <-breakers)
	return &result.Run{
		Version: result.Version, Scenario: "simulate", Description: s.describe(), Started: start, Host: process.Host(),
		Settings: c.settings(), Measurements: []result.Measurement{s.measurement(ended)},
	}, err
}

// simulation is a running simulation.
type simulation struct {
	config     *Config
	recorder   *record.Recorder
	tally      *tally
	middleware *middleware
	nodes      *nodes
	viewers    *audience
	start      time.Time
	// rechecks are those of the sample until each second, recheckPeak is the most a second on average over peakWindow.
	rechecks    []int64
	recheckPeak float64
}

// peakWindow is over how many seconds a peak is taken: a sample has few calls a second.
const peakWindow = 10

// play passes the time second by second.
func (s *simulation) play(ctx, life context.Context, show func(record.Snapshot)) error {
	endFault := func(time.Time) {}
	calls := s.middleware.calls()
	for elapsed := time.Duration(0); elapsed < s.config.For; elapsed += time.Second {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := s.start.Add(elapsed)
		switch outage, c := s.config.Outage, s.config; {
		case outage == OutageNone:
		case elapsed == c.From.Truncate(time.Second):
			s.middleware.outage.Store(&outage)
			endFault = s.recorder.Fault("middleware "+string(outage), now)
		case elapsed == (c.From + c.Length).Truncate(time.Second):
			none := OutageNone
			s.middleware.outage.Store(&none)
			endFault(now)
		}
		s.viewers.act(life, now)
		time.Sleep(time.Until(now.Add(time.Second)))
		before := calls
		calls = s.middleware.calls()
		s.recorder.Count("middleware.calls", calls-before)
		s.gauges()
		show(s.recorder.Tick(now.Add(time.Second)))
	}
	return nil
}

// gauges records how things stand.
func (s *simulation) gauges() {
	factor := s.config.factor()
	playing, unverified, free := s.viewers.count()
	waiting, down := s.nodes.waiting()
	s.recorder.Gauge("viewers.alive", "", float64(playing)*factor)
	s.recorder.Gauge("viewers.unverified", "", float64(unverified)*factor)
	s.recorder.Gauge("free_riders", "", float64(free)*factor)
	s.recorder.Gauge("rechecks.waiting", "", float64(waiting)*factor)
	s.recorder.Gauge("breakers.open", "", float64(down))
	s.rechecks = append(s.rechecks, s.middleware.rechecks.Load())
	if i := len(s.rechecks) - 1; i >= peakWindow {
		s.recheckPeak = max(s.recheckPeak, float64(s.rechecks[i]-s.rechecks[i-peakWindow])/peakWindow*factor)
	}
}

func (s *simulation) describe() string {
	c := s.config
	return fmt.Sprintf("%d viewers on %d nodes in fake time, by a sample of %d: what the middleware is asked, and what an outage costs.",
		c.Viewers, c.Nodes, c.Sample)
}

// measurement returns what was found until then.
func (s *simulation) measurement(ended time.Time) result.Measurement {
	m := s.recorder.Finish(ended)
	s.bill(m.Counts)
	m.Target, m.Round = "usher", 1
	for i := range m.Faults {
		if m.Faults[i].To == 0 {
			m.Faults[i].To = m.Seconds
		}
	}
	rate := float64(s.config.RecheckRate)
	most := rate * (1 + 1.0/peakWindow) // a grant that comes late is followed by one in time
	m.Assertions = append(m.Assertions, result.Assertion{
		Text: fmt.Sprintf("max(re-checks over %d s) <= 1.1 * recheck_rate", peakWindow), Got: fmt.Sprintf("%.0f/s", s.recheckPeak),
		Kept: s.recheckPeak <= most,
	})
	if s.config.OnFailure == backends.PolicyAllow {
		good := m.Counts["denials.good"]
		m.Assertions = append(m.Assertions, result.Assertion{
			Text: "no viewer is refused who may watch", Got: fmt.Sprintf("%.0f", good), Kept: good == 0,
		})
	}
	m.Notes = append(m.Notes, fmt.Sprintf("one viewer of the sample stands for %.0f; openings in the table of requests are the sample's",
		s.config.factor()))
	return m
}

// bill adds what the outage cost to the counts.
func (s *simulation) bill(counts map[string]float64) {
	t, factor := s.tally, s.config.factor()
	t.mu.Lock()
	defer t.mu.Unlock()
	counts["free_rides.hours"] = t.freeTime.Hours() * factor
	counts["free_rides.bytes"] = t.freeTime.Seconds() * factor * s.config.Bitrate / 8
	counts["unverified.hours"] = t.unverified.Hours() * factor
	if end := s.start.Add(s.config.From + s.config.Length); s.config.Outage != OutageNone && t.lastFree.After(end) {
		counts["free_rides.seconds_after_outage"] = t.lastFree.Sub(end).Seconds()
	}
}

// settings returns the config by the names of the command's flags.
func (c *Config) settings() map[string]string {
	return map[string]string{
		"viewers": strconv.Itoa(c.Viewers), "nodes": strconv.Itoa(c.Nodes), "sample": strconv.Itoa(c.Sample),
		"arrive": c.Arrive.String(), "watch": c.Watch.String(), "hop": c.Hop.String(), "segment": c.Segment.String(),
		"bitrate": strconv.FormatFloat(c.Bitrate, 'g', -1, 64), "bad": strconv.FormatFloat(c.Bad, 'g', -1, 64),
		"streams": strconv.Itoa(c.Streams), "shared": strconv.FormatFloat(c.Shared, 'g', -1, 64),
		"validity": c.Validity.String(), "recheck-rate": strconv.Itoa(c.RecheckRate), "on-failure": c.OnFailure.String(),
		"latency": c.Latency.String(), "capacity": strconv.Itoa(c.Capacity),
		"outage": string(c.Outage), "outage-at": c.From.String(), "outage-for": c.Length.String(),
		"for": c.For.String(), "seed": strconv.Itoa(c.Seed),
	}
}
