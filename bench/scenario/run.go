package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	// Attacker is the command that attacks, as in [rig.Options].
	Attacker []string
	// Against are servers to measure in alternation with the first, which is External or Usher: rig.Usher, names of peers, and URLs
	// of any HLS server, as in "cdn=https://cdn.example.com/live/{channel}/index.m3u8", whose name and path may be left out.
	Against []string
	// Rounds is how often each is measured; 0: once.
	Rounds int
	// External, if not nil, is measured in place of servers that the harness starts.
	External *rig.External
	// Show is called once a second; nil: not.
	Show func(record.Snapshot)
	// Begin is called before each measurement; nil: not.
	Begin func(target string, round int)
	// started is when the run began.
	started time.Time
	// sabotage makes the servers wrong in a test of the expectations; nil: not.
	sabotage func(*rig.Rig) error
}

// Run runs the scenario. What it measured so far is returned with an error too.
func Run(ctx context.Context, s *Scenario, o Options) (*result.Run, error) {
	run := &result.Run{
		Version: result.Version, Scenario: s.Name, Description: s.Shows, Started: time.Now(), Host: process.Host(), Settings: map[string]string{},
	}
	for _, k := range s.knobs() {
		run.Settings[k.Name] = k.get()
	}
	targets, err := o.targets()
	if err == nil {
		err = s.validate(ctx, targets, &o)
	}
	if err != nil {
		return run, err
	}
	o.started = run.Started
	for round := range max(1, o.Rounds) {
		for i := range targets {
			number := (i + round) % len(targets)
			name := targets[number].name
			if o.Begin != nil {
				o.Begin(name, round+1)
			}
			m, err := s.measure(ctx, targets, number, &o)
			if m.Target, m.Round = name, round+1; err == nil || errors.Is(err, errInterrupted) {
				run.Measurements = append(run.Measurements, m)
			}
			if err != nil {
				return run, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	// Viewers whom the servers know from an earlier round may need no check in a later one.
	if first := &targets[0]; !first.wasAsking && first.unasked != nil {
		return run, fmt.Errorf("%s: %w", first.name, first.unasked)
	}
	return run, nil
}

// measure measures one of the targets once.
func (s *Scenario) measure(ctx context.Context, targets []target, number int, o *Options) (m result.Measurement, err error) {
	t := &targets[number]
	plan := s.as(t, targets)
	g, err := plan.start(ctx, t, o)
	if err != nil {
		return m, err
	}
	defer g.Close()
	if o.sabotage != nil {
		if err := o.sabotage(g); err != nil {
			return m, err
		}
	}
	config, err := plan.viewersOf(g, t.word(o.started))
	if err != nil {
		return m, err
	}
	faults, err := plan.events(g.Fault)
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
		t.addUnasked(&m, g.Unasked())
		plan.addNotes(&m, hasPeers(targets))
		if number == 0 || t.isUsher() {
			plan.judge(&m, t.external)
		}
	}
	return m, err
}

var errNoEdges = errors.New("edges cannot ask it")

// viewersOf returns what the viewers of the rig's servers do, in whose tokens the word is.
func (s *Scenario) viewersOf(g *rig.Rig, word string) (viewer.Config, error) {
	config, err := s.viewers()
	if err != nil {
		return config, err
	}
	config.Token = s.tokens(word)
	config.Targets, config.TLS = g.URLs(), g.TLS
	if config.Auth != nil {
		if config.Auth.Path = g.AuthPath(); config.Auth.Path == "" && config.Auth.Dialect.IsHTTP() {
			return config, errNoEdges
		}
	}
	return config, nil
}

// errInterrupted is wrapped by Run's error if the context ended before the run. What it measured until then is not judged.
var errInterrupted = errors.New("interrupted")

func (s *Scenario) addNotes(m *result.Measurement, isAmongPeers bool) {
	if a := &m.Arrivals; a.Dropped > 0 || a.Started < a.Planned {
		m.Notes = append(m.Notes, fmt.Sprintf("the plan was not kept: %d viewers planned, %d started; %d starts and requests dropped",
			a.Planned, a.Started, a.Dropped))
	}
	if s.Dialect == "" && isAmongPeers {
		m.Notes = append(m.Notes, peersNote)
	}
}

// judge says which expectations hold. Servers with which the first is compared are not judged.
func (s *Scenario) judge(m *result.Measurement, external *rig.External) {
	measured := &measured{Measurement: m, knobs: s.byName(), phases: s.phases(m.Faults), external: external}
	for i := range s.Expect {
		a, err := measured.evaluate(&s.Expect[i])
		if errors.Is(err, errNotTold) {
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
	planned []Fault
	faults  []rig.Fault
	order   []event
}

func (s *Scenario) events(find func(what string) (rig.Fault, error)) (e events, err error) {
	e.planned = s.inOrder()
	for i, f := range e.planned {
		fault, err := find(f.What)
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
	var died error
	for len(errs) < cap(failed) {
		select {
		case <-ticker.C:
			if died = r.rig.Died(); died != nil {
				cancel()
			}
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
	if err := errors.Join(append(errs, cmp.Or(died, r.rig.Died()))...); err != nil {
		return err
	}
	if parent.Err() != nil {
		return errInterrupted
	}
	r.rig.Sample(parent, r.recorder) // for the last second
	return nil
}

// openFault is a fault that has begun.
type openFault struct {
	plan   *Fault
	mend   func(context.Context) error
	record func(time.Time)
	// ended is closed when it is mended; nil: its end has not come.
	ended chan struct{}
	err   error
}

// end mends the fault beside the others, which it must not delay: a restart may last longer than planned. It calls onError if that fails.
func (f *openFault) end(ctx context.Context, onError func()) {
	f.ended = make(chan struct{})
	go func() {
		defer close(f.ended)
		if f.err = f.mend(context.WithoutCancel(ctx)); f.err != nil {
			onError()
		}
		f.record(time.Now())
	}()
}

// breakThings begins and ends the faults at their times. All have ended when it returns.
func (r *runner) breakThings(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	open := make([]*openFault, 0, len(r.events.faults)) // in the order in which they begin
	var errs []error
	for _, e := range r.events.order {
		if !waitUntil(ctx, begun.Add(e.at)) {
			break
		}
		if e.isEnd {
			open[e.index].end(ctx, cancel)
			continue
		}
		one, err := r.begin(ctx, begun, e.index, open)
		if err != nil {
			errs = append(errs, err)
			break
		}
		open = append(open, one)
	}
	for _, one := range open {
		if one.ended == nil {
			one.end(ctx, cancel)
		}
		<-one.ended
		errs = append(errs, one.err)
	}
	return errors.Join(errs...)
}

// begin begins a fault, once those that still end are mended that are of the same server. A fault that could not begin before its planned
// end is an error: no expectation would say anything of it.
func (r *runner) begin(ctx context.Context, begun time.Time, index int, open []*openFault) (*openFault, error) {
	plan, fault := &r.events.planned[index], r.events.faults[index]
	for _, other := range open {
		if other.ended != nil && other.plan.isOfServerOf(plan) {
			<-other.ended
		}
	}
	at, length := plan.At.Of(r.scenario.For), plan.For.Of(r.scenario.For)
	if late := time.Since(begun); late >= at+length && !plan.endsByItself() {
		return nil, fmt.Errorf("fault %q: at %s for %s: could not begin before %s, because others took so long; have it begin later, or last longer",
			plan.What, plan.At, plan.For, late.Round(time.Second))
	}
	one := &openFault{plan: plan, record: r.recorder.Fault(fault.Name, time.Now())}
	var err error
	if one.mend, err = fault.Begin(ctx); err != nil {
		return nil, err
	}
	return one, nil
}

func waitUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
