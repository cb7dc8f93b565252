package overview

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

const (
	// Interval is the time between two samples.
	Interval = 5 * time.Second
	// Kept is how many samples a node keeps: those of ten minutes.
	Kept = int(10 * time.Minute / Interval)
)

// Counters counts what happens on one node. It is safe for concurrent use.
type Counters struct {
	openings, denials              atomic.Int64
	sessions, failOpen, unverified atomic.Int64

	mu       sync.Mutex
	last     int64 // the number of the last sample's interval since 1970; 0: there is none
	counted  [2]int64
	samples  []sample            // the newest last, at most Kept
	breakers map[string]*Breaker // by the names of their backends
}

// sample is what happened in one interval, and what held at its end.
type sample struct {
	openings, denials, sessions, failOpen int64
}

// Breaker is what becomes of the breaker of one backend. Begin with [Counters.NewBreaker].
type Breaker struct {
	of *Counters
	// state is the present state, worst the worst one since the last sample.
	state, worst backends.BreakerState
	// history has a letter for each sample.
	history []byte
}

// NewCounters returns counters of nothing.
func NewCounters() *Counters { return &Counters{breakers: map[string]*Breaker{}} }

// Opened counts a session's first decision.
func (c *Counters) Opened() { c.openings.Add(1) }

// Decided counts a session's new decision. Before is nil for its first one, after if the session ended.
func (c *Counters) Decided(before, after *backends.Decision) {
	c.hold(before, -1)
	c.hold(after, 1)
	if after != nil && after.Verdict == backends.Denied {
		c.denials.Add(1)
	}
}

// hold adds n sessions with the decision.
func (c *Counters) hold(d *backends.Decision, n int64) {
	if d == nil {
		return
	}
	c.sessions.Add(n)
	if d.Verdict == backends.Allowed && !d.Source.IsAuthoritative() {
		c.unverified.Add(n)
		if d.Source == backends.FromFailOpen {
			c.failOpen.Add(n)
		}
	}
}

// NewBreaker returns a breaker that is closed. SetBreakers has it counted.
func (c *Counters) NewBreaker() *Breaker { return &Breaker{of: c} }

// Note notes the breaker's state.
func (b *Breaker) Note(s backends.BreakerState) {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.state, b.worst = s, max(b.worst, s)
}

// SetBreakers counts these breakers from now on, and no others. They have the names of their backends.
func (c *Counters) SetBreakers(all map[string]*Breaker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakers = maps.Clone(all)
}

// Run takes a sample at the end of every interval until ctx ends.
func (c *Counters) Run(ctx context.Context) {
	for {
		now := time.Now()
		c.Sample(now)
		select {
		case <-ctx.Done():
			return
		case <-time.After(now.Truncate(Interval).Add(Interval).Sub(now)):
		}
	}
}

// intervalOf returns the number of the interval in which a time is, since 1970.
func intervalOf(t time.Time) int64 { return t.Unix() / int64(Interval/time.Second) }

// Sample takes the sample of the interval that ended before now. A second one in an interval changes nothing. Intervals that
// were missed, as by a machine that slept, are empty. A clock that was set back has it begin anew.
func (c *Counters) Sample(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	interval := intervalOf(now)
	if interval < c.last-1 { // the clock was set back
		c.last, c.samples = 0, nil
		for _, b := range c.breakers {
			b.history = nil
		}
	}
	if interval <= c.last {
		return
	}
	missed := 0
	if c.last > 0 {
		missed = int(min(interval-c.last-1, int64(Kept)))
	}
	counted := [2]int64{c.openings.Load(), c.denials.Load()}
	s := sample{
		openings: counted[0] - c.counted[0], denials: counted[1] - c.counted[1],
		sessions: c.sessions.Load(), failOpen: c.failOpen.Load(),
	}
	c.samples = keepLast(append(append(c.samples, make([]sample, missed)...), s))
	for _, b := range c.breakers {
		for range missed {
			b.history = append(b.history, letter(b.state))
		}
		b.history = keepLast(append(b.history, letter(b.worst)))
		b.worst = b.state
	}
	c.last, c.counted = interval, counted
}

// keepLast returns the last samples that are kept.
func keepLast[T any](all []T) []T {
	if len(all) <= Kept {
		return all
	}
	return slices.Delete(all, 0, len(all)-Kept)
}

// letters are the states of a breaker in a history, in the order of their values.
const letters = "cho"

func letter(s backends.BreakerState) byte { return letters[s] }

// nodeState is what a node tells the others.
type nodeState struct {
	Last       int64            `json:"last"`
	Sessions   int64            `json:"sessions"`
	FailOpen   int64            `json:"fail_open"`
	Unverified int64            `json:"unverified"`
	Samples    [4][]int64       `json:"samples"` // openings, denials, sessions, those by fail-open
	Breakers   map[string]state `json:"breakers"`
}

// state is a breaker as a node tells it.
type state struct {
	State   string `json:"state"`
	History string `json:"history"`
}

// Node returns what this node tells for [Join].
func (c *Counters) Node() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := nodeState{
		Last: c.last, Sessions: c.sessions.Load(), FailOpen: c.failOpen.Load(), Unverified: c.unverified.Load(),
		Breakers: make(map[string]state, len(c.breakers)),
	}
	for _, s := range c.samples {
		for i, value := range [...]int64{s.openings, s.denials, s.sessions, s.failOpen} {
			n.Samples[i] = append(n.Samples[i], value)
		}
	}
	for name, b := range c.breakers {
		n.Breakers[name] = state{State: b.state.String(), History: string(b.history)}
	}
	body, err := json.Marshal(n)
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only strings and numbers
	}
	return body
}
