package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	faults, err := plan.plannedFaults(g.Fault)
	if err != nil {
		return m, err
	}
	r := &runner{scenario: &plan, rig: g, recorder: record.New(time.Now()), faults: faults, show: o.Show}
	err = r.run(ctx, config)
	if err != nil && !errors.Is(err, errInterrupted) {
		return m, err
	}
	m = r.recorder.Finish(time.Now())
	m.Faults = r.inPlanOrder(m.Faults)
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

// plannedFault is a fault and its place in the run.
type plannedFault struct {
	plan     Fault
	fault    rig.Fault
	from, to time.Duration
	// ended is closed when it is mended, or will not begin.
	ended chan struct{}
}

// plannedFaults returns the faults in the order in which they are planned to begin.
func (s *Scenario) plannedFaults(find func(what string) (rig.Fault, error)) ([]plannedFault, error) {
	var planned []plannedFault
	for _, f := range s.inOrder() {
		fault, err := find(f.What)
		if err != nil {
			return nil, err
		}
		from := f.At.Of(s.For)
		planned = append(planned, plannedFault{f, fault, from, from + f.For.Of(s.For), make(chan struct{})})
	}
	return planned, nil
}

// runner runs one measurement.
type runner struct {
	scenario *Scenario
	rig      *rig.Rig
	recorder *record.Recorder
	faults   []plannedFault
	show     func(record.Snapshot)

	mu sync.Mutex // guards begun
	// begun are the indices of the faults that began, in that order, which is that of the recorder.
	begun []int
}

// errOver is the cause of the end of a run's context at the end of its plan.
var errOver = errors.New("the run is over")

// run plays viewers and faults, and reads figures once a second.
func (r *runner) run(ctx context.Context, c viewer.Config) error {
	parent := ctx
	// Not a deadline, which connections would meet as a timeout of theirs.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.rig.Sample(ctx, r.recorder)
	defer time.AfterFunc(r.scenario.For, func() { cancel(errOver) }).Stop()
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
				cancel(nil)
			}
			r.rig.Sample(parent, r.recorder) // may take a while
			if snapshot := r.recorder.Tick(time.Now()); r.show != nil {
				r.show(snapshot)
			}
		case err := <-failed:
			if errs = append(errs, err); err != nil {
				cancel(nil)
			}
		}
	}
	err := errors.Join(append(errs, cmp.Or(died, r.rig.Died()))...)
	if parent.Err() != nil {
		return errors.Join(errInterrupted, err) // what failed may have failed for that reason
	}
	if err != nil {
		return err
	}
	r.rig.Sample(parent, r.recorder) // for the last second
	return nil
}

// breakThings begins and ends each fault at its times, beside the others: one that takes longer than planned, such as a restart, delays
// those of its server alone. All have ended when it returns.
func (r *runner) breakThings(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	errs := make([]error, len(r.faults))
	var running sync.WaitGroup
	for i := range r.faults {
		running.Go(func() {
			defer close(r.faults[i].ended)
			if errs[i] = r.breakOne(ctx, start, i); errs[i] != nil {
				cancel()
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// breakOne keeps a fault in force for its time. It does not begin if ctx ends before.
func (r *runner) breakOne(ctx context.Context, start time.Time, index int) error {
	f := &r.faults[index]
	if !waitUntil(ctx, start.Add(f.from)) {
		return nil
	}
	if err := r.waitForOthers(ctx, start, index); err != nil || ctx.Err() != nil {
		return err
	}
	end := r.record(index)
	mend, err := f.fault.Begin(ctx)
	if err != nil {
		return err
	}
	waitUntil(ctx, start.Add(f.to))
	err = mend(context.WithoutCancel(ctx))
	end(time.Now())
	return err
}

// waitForOthers waits until the faults before it are mended that are of the same server. A fault that could not begin before its planned
// end, or before that of the run, is an error: no expectation would say anything of it.
func (r *runner) waitForOthers(ctx context.Context, start time.Time, index int) error {
	f := &r.faults[index]
	for i := range r.faults[:index] {
		if other := &r.faults[i]; other.plan.isOfServerOf(&f.plan) {
			select {
			case <-other.ended:
			case <-ctx.Done():
			}
		}
	}
	late := time.Since(start)
	if isLate := ctx.Err() == nil && late >= f.to && !f.plan.endsByItself(); isLate || errors.Is(context.Cause(ctx), errOver) {
		return fmt.Errorf("fault %q: at %s for %s: could not begin before %s, because others took so long; have it begin later, or last longer",
			f.plan.What, f.plan.At, f.plan.For, late.Round(time.Second))
	}
	return nil
}

// record records that a fault begins now. The caller calls end when it is mended.
func (r *runner) record(index int) (end func(time.Time)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, index)
	return r.recorder.Fault(r.faults[index].fault.Name, time.Now())
}

// inPlanOrder returns the recorded faults in the order of the plan. One that waited began behind those of other servers.
func (r *runner) inPlanOrder(recorded []result.Fault) []result.Fault {
	var faults []result.Fault
	for i := range r.faults {
		if number := slices.Index(r.begun, i); number >= 0 {
			faults = append(faults, recorded[number])
		}
	}
	return faults
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
