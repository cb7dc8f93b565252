package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"usher/bench/process"
	"usher/bench/result"
)

// ErrInterrupted is wrapped by Run's error if the context ended before the run. What it measured until then is not judged.
var ErrInterrupted = errors.New("interrupted")

// Run runs the cluster, its viewers and the faults, and says which promises held. All servers have ended when it returns.
func Run(ctx context.Context, c Config) (*result.Run, error) {
	run := &result.Run{
		Version: result.Version, Scenario: "soak", Started: time.Now(), Host: process.Host(),
		Description: "Three nodes, Redis, two middlewares and nginx, each on a machine of its own, go through faults drawn by chance.",
		Settings: map[string]string{
			"for": c.For.String(), "viewers": strconv.Itoa(c.Viewers), "seed": strconv.FormatUint(c.Seed, 10),
			"clock steps": strconv.FormatBool(c.HasClock),
		},
	}
	if err := c.Validate(); err != nil {
		return run, err
	}
	w, err := build(ctx, c)
	defer w.close()
	if err != nil {
		return run, err
	}
	w.ledger = newLedger(time.Now())
	err = w.run(ctx)
	m := w.ledger.finish(time.Now())
	m.Target, m.Round, m.URL = "usher", 1, "three nodes"
	if !c.HasClock {
		m.Notes = append(m.Notes, "no clock was set: the program has the machine's; leave --usher out to build one whose clock can be set")
	}
	if ctx.Err() == nil {
		w.addGrowth(&m)
	} else {
		m.Assertions, err = nil, errors.Join(ErrInterrupted, err)
	}
	run.Measurements = append(run.Measurements, m)
	return run, err
}

// run plays all parts until the run is over.
func (w *world) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chance := rand.New(rand.NewPCG(w.config.Seed, 0))
	faults := plan(w.config.For, w.config.HasClock, chance)
	var parts sync.WaitGroup
	for i, n := range w.nodes {
		parts.Go(func() { n.watch(ctx, w.watched[i]) })
	}
	w.play(ctx, &parts)
	failed := make(chan error, 1)
	go func() { failed <- w.breakThings(ctx, faults) }()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	over := time.NewTimer(w.config.For)
	defer over.Stop()
	var err error
	for isOver := false; !isOver; {
		select {
		case now := <-ticker.C:
			if err = w.tick(now); err != nil {
				isOver = true
			}
		case <-over.C:
			isOver = true
		case <-ctx.Done():
			isOver = true
		}
	}
	cancel()
	parts.Wait()
	return errors.Join(err, <-failed)
}

// tick closes a second.
func (w *world) tick(now time.Time) error {
	for i, n := range w.nodes {
		name, seen := n.host.Name, w.watched[i]
		seen.mu.Lock()
		if last := len(seen.samples) - 1; last >= 0 && now.Sub(seen.samples[last].at) < time.Second {
			s := seen.samples[last]
			w.ledger.recorder.Gauge("memory."+name, "B", s.resident)
			w.ledger.recorder.Gauge("heap."+name, "B", s.heap)
			w.ledger.recorder.Gauge("goroutines."+name, "", s.goroutines)
			w.ledger.recorder.Process(result.Process{Name: name, CPUSeconds: s.cpu, Resident: uint64(s.resident)})
		}
		seen.mu.Unlock()
	}
	calls := uint64(0)
	for _, p := range w.portals {
		calls += p.Calls()
	}
	w.ledger.recorder.Total("middleware.calls", float64(calls))
	w.ledger.recorder.Gauge("viewers.alive", "", float64(w.playing.Load()))
	err := w.checkDeaths()
	if s := w.ledger.recorder.Tick(now); w.config.Show != nil {
		w.config.Show(s)
	}
	return err
}

// addGrowth adds whether the nodes grew.
func (w *world) addGrowth(m *result.Measurement) {
	at := func(share float64) time.Time {
		return w.ledger.started.Add(time.Duration(share * float64(w.config.For)))
	}
	measured := func(from, to float64) span { return span{at(to - (to-from)*measuredShareOfQuiet), at(to)} }
	var names []string
	var before, after []usage
	for i, n := range w.nodes {
		first, ok1 := medians(w.watched[i].samples, measured(middleFrom, middleTo))
		last, ok2 := medians(w.watched[i].samples, measured(endFrom, 1))
		if !ok1 || !ok2 {
			m.Assertions = append(m.Assertions, result.Assertion{
				Text: fmt.Sprintf("%s is measured in the quiet times", n.host.Name), Got: "it gave no metrics",
			})
			return
		}
		names, before, after = append(names, n.host.Name), append(before, first), append(after, last)
	}
	m.Assertions = append(m.Assertions, judgeGrowth(names, before, after)...)
}
