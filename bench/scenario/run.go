package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"usher/bench/peers"
	"usher/bench/process"
	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/rig"
	"usher/bench/viewer"
)

// Options are how a scenario is run.
type Options struct {
	// Binary is the program usher; it may be empty without nodes of Usher.
	Binary string
	// Against are the servers to measure in alternation: rig.Usher and names of peers. Empty: Usher alone.
	Against []string
	// Rounds is how often each is measured; 0: once.
	Rounds int
	// External, if not nil, is measured in place of servers that the harness starts.
	External *rig.External
	// Show is called once a second; nil: not.
	Show func(record.Snapshot)
	// Begin is called before each measurement; nil: not.
	Begin func(target string, round int)
	// sabotage makes the servers wrong in a test of the expectations; nil: not.
	sabotage func(*rig.Rig) error
}

// hasPeers reports whether servers other than Usher are measured.
func (o *Options) hasPeers() bool {
	return slices.ContainsFunc(o.Against, func(name string) bool { return name != rig.Usher })
}

// targets returns the names of what is measured.
func (o *Options) targets() ([]string, error) {
	switch {
	case o.External != nil:
		return []string{strings.Join(o.External.URLs, ",")}, nil
	case len(o.Against) == 0:
		return []string{rig.Usher}, nil
	}
	for _, name := range o.Against {
		if name == rig.Usher {
			continue
		}
		if _, err := peers.Find(name); err != nil {
			return nil, fmt.Errorf("--against: %w", err)
		}
	}
	return o.Against, nil
}

// Run runs the scenario. What it measured so far is returned with an error too.
func Run(ctx context.Context, s *Scenario, o Options) (*result.Run, error) {
	run := &result.Run{
		Version: result.Version, Scenario: s.Name, Description: s.Shows, Started: time.Now(), Host: process.Host(), Settings: map[string]string{},
	}
	for _, k := range s.knobs() {
		run.Settings[k.Name] = k.get()
	}
	if err := s.Validate(); err != nil {
		return run, err
	}
	targets, err := o.targets()
	if err != nil {
		return run, err
	}
	for round := range max(1, o.Rounds) {
		for i := range targets {
			target := targets[(i+round)%len(targets)]
			if o.Begin != nil {
				o.Begin(target, round+1)
			}
			m, err := s.measure(ctx, target, o)
			if m.Target, m.Round = target, round+1; err == nil || errors.Is(err, errInterrupted) {
				run.Measurements = append(run.Measurements, m)
			}
			if err != nil {
				return run, fmt.Errorf("%s: %w", target, err)
			}
		}
	}
	return run, nil
}

// forPeers changes what servers differ in that do not carry a viewer's ticket to what they list: playlists alone, with the token.
func (s *Scenario) forPeers(o Options) Scenario {
	changed := *s
	if s.Dialect == "" && o.hasPeers() {
		changed.Path, changed.SegmentEvery, changed.Light = "/single/{channel}/index.m3u8?token={token}", 0, true
	}
	return changed
}

const peersNote = "servers that do not carry a viewer's ticket to what playlists list are compared by playlists alone, with the token"

// start starts the target's servers.
func (s *Scenario) start(ctx context.Context, target string, o Options) (*rig.Rig, error) {
	options := rig.Options{
		Server: target, Binary: o.Binary, Nodes: s.Nodes, Redis: s.Redis, Balancer: s.Balancer, Latency: s.Latency,
		Validity: s.Validity.Of(s.For), Segment: s.Segment, SegmentSize: s.SegmentSize, OnFailure: s.OnFailure, RecheckRate: s.RecheckRate,
		Settings: s.Settings,
		// Zaps, roaming and returns open further sessions.
		Sessions: roomFor*s.Viewers + leastRoom,
	}
	if o.External != nil {
		return o.External.Start(ctx, options)
	}
	if target != rig.Usher {
		options.Validity = max(time.Second, options.Validity.Round(time.Second)) // as peers have it
	}
	return rig.Start(ctx, options)
}

// roomFor is for how many times the viewers there is room.
const (
	roomFor   = 4
	leastRoom = 50_000
)

// measure measures one target once.
func (s *Scenario) measure(ctx context.Context, target string, o Options) (m result.Measurement, err error) {
	plan := s.forPeers(o)
	g, err := plan.start(ctx, target, o)
	if err != nil {
		return m, err
	}
	defer g.Close()
	if o.sabotage != nil {
		if err := o.sabotage(g); err != nil {
			return m, err
		}
	}
	config, err := plan.viewers()
	if err != nil {
		return m, err
	}
	config.Targets = g.URLs()
	if config.Auth != nil {
		if config.Auth.Path = g.AuthPath(); config.Auth.Path == "" && config.Auth.Dialect.IsHTTP() {
			return m, fmt.Errorf("%s: edges cannot ask it", target)
		}
	}
	faults, err := plan.events(g)
	if err != nil {
		return m, err
	}
	r := &runner{scenario: &plan, rig: g, recorder: record.New(time.Now()), events: faults, show: o.Show}
	err = r.run(ctx, config)
	if err != nil && !errors.Is(err, errInterrupted) {
		return m, err
	}
	m = r.recorder.Finish(time.Now())
	m.URL = strings.Join(config.Targets, ", ")
	if err == nil {
		plan.judge(&m, target == rig.Usher, o)
	}
	return m, err
}

// errInterrupted is wrapped by Run's error if the context ended before the run. What it measured until then is not judged.
var errInterrupted = errors.New("interrupted")

// judge adds notes, and says which expectations hold.
func (s *Scenario) judge(m *result.Measurement, isOurs bool, o Options) {
	if a := &m.Arrivals; a.Dropped > 0 || a.Started < a.Planned {
		m.Notes = append(m.Notes, fmt.Sprintf("the plan was not kept: %d viewers planned, %d started; %d starts and requests dropped",
			a.Planned, a.Started, a.Dropped))
	}
	if len(o.Against) > 0 && !isOurs {
		return // peers are compared, not judged
	}
	if s.Dialect == "" && o.hasPeers() {
		m.Notes = append(m.Notes, peersNote)
	}
	measured := &measured{Measurement: m, knobs: s.byName(), phases: s.phases(m.Faults)}
	for i := range s.Expect {
		a, err := measured.evaluate(&s.Expect[i])
		if errors.Is(err, errNotMeasured) && o.External != nil {
			m.Notes = append(m.Notes, fmt.Sprintf("not checked: %s (%v)", a.Text, err))
			continue
		}
		m.Assertions = append(m.Assertions, a)
	}
}

// event is the begin or the end of a fault.
type event struct {
	at    time.Duration
	index int
	isEnd bool
}

// events returns what happens when, and the faults.
type events struct {
	faults []rig.Fault
	order  []event
}

func (s *Scenario) events(g *rig.Rig) (e events, err error) {
	for i, f := range s.inOrder() {
		fault, err := g.Fault(f.What)
		if err != nil {
			return e, err
		}
		e.faults = append(e.faults, fault)
		at := f.At.Of(s.For)
		e.order = append(e.order, event{at, i, false}, event{at + f.For.Of(s.For), i, true})
	}
	slices.SortStableFunc(e.order, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return e, nil
}

// runner runs one measurement.
type runner struct {
	scenario *Scenario
	rig      *rig.Rig
	recorder *record.Recorder
	events   events
	show     func(record.Snapshot)
}

// run plays viewers and faults, and reads figures once a second.
func (r *runner) run(ctx context.Context, c viewer.Config) error {
	parent := ctx
	// Not a deadline, which connections would meet as a timeout of theirs.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.rig.Sample(ctx, r.recorder)
	defer time.AfterFunc(r.scenario.For, cancel).Stop()
	failed := make(chan error, 2)
	go func() { failed <- viewer.Run(ctx, c, r.recorder) }()
	go func() { failed <- r.breakThings(ctx) }()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var errs []error
	for len(errs) < cap(failed) {
		select {
		case <-ticker.C:
			r.rig.Sample(parent, r.recorder) // may take a while
			if snapshot := r.recorder.Tick(time.Now()); r.show != nil {
				r.show(snapshot)
			}
		case err := <-failed:
			if errs = append(errs, err); err != nil {
				cancel()
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if parent.Err() != nil {
		return errInterrupted
	}
	r.rig.Sample(parent, r.recorder) // for the last second
	return nil
}

// breakThings begins and ends the faults at their times. All have ended when it returns.
func (r *runner) breakThings(ctx context.Context) error {
	begun := time.Now()
	type ending struct {
		mend   func(context.Context) error
		record func(time.Time)
	}
	open := map[int]ending{}
	mend := func(index int) error {
		e := open[index]
		delete(open, index)
		err := e.mend(context.WithoutCancel(ctx))
		e.record(time.Now())
		return err
	}
	var err error
	for _, e := range r.events.order {
		if !waitUntil(ctx, begun.Add(e.at)) {
			break
		}
		fault := r.events.faults[e.index]
		if e.isEnd {
			if err = mend(e.index); err != nil {
				break
			}
			continue
		}
		var one ending
		one.record = r.recorder.Fault(fault.Name, time.Now())
		if one.mend, err = fault.Begin(ctx); err != nil {
			break
		}
		open[e.index] = one
	}
	for index := range open {
		err = errors.Join(err, mend(index))
	}
	return err
}

func waitUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
