package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"usher/bench/process"
	"usher/bench/record"
	"usher/bench/result"
)

// sampler remembers counters, which are of processes that may restart.
type sampler struct {
	mu     sync.Mutex
	last   map[counter]reading
	read   map[string]time.Time // when each process was read
	cpu    map[string]float64   // used since the first sample, by process
	sensed time.Time
}

// counter is a counter of a process.
type counter struct{ process, name string }

// reading is a counter's value at a time.
type reading struct {
	value float64
	at    time.Time
}

// grown returns how much a counter has grown since it was last read, and how long that is ago: readings are not a second apart, as
// a busy server's metrics take a while. The first reading of a process is the base. A counter that appears later began at zero.
func (s *sampler) grown(process, name string, now reading) (n float64, over time.Duration) {
	c := counter{process, name}
	last, isKnown := s.last[c]
	s.last[c] = now
	if !isKnown {
		at, isRead := s.read[process]
		if !isRead {
			return 0, 0
		}
		last.at = at
	}
	over = now.at.Sub(last.at)
	if now.value < last.value { // the process is a new one
		return now.value, over
	}
	return now.value - last.value, over
}

const sampleTimeout = 500 * time.Millisecond

// Sample records what the servers and the harness have done and used since the last call. A server that does not answer has no
// values.
func (g *Rig) Sample(ctx context.Context, r *record.Recorder) {
	g.sampler.mu.Lock()
	defer g.sampler.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	if g.sampler.last == nil {
		g.sampler.last, g.sampler.read, g.sampler.cpu = map[counter]reading{}, map[string]time.Time{}, map[string]float64{}
	}
	count := func(name, process, counter string, value float64) {
		n, over := g.sampler.grown(process, counter, reading{value, time.Now()})
		r.Grown(name, n, over)
	}
	if g.Middleware != nil {
		count(callsLine, "middleware", "calls", float64(g.Middleware.Calls()))
	}
	g.sampleNodes(ctx, r)
	if a := g.attack.Load(); a != nil {
		stats, name := a.Stats(), fmt.Sprintf("attack %p", a)
		if _, isRead := g.sampler.read[name]; !isRead {
			g.sampler.read[name] = g.sampler.sensed // it began at zero, after the last sample
		}
		r.Gauge("attack.connections", "", float64(stats.Connections))
		count("attack.closed", name, "closed", float64(stats.Closed))
		count("attack.answers", name, "answers", float64(stats.Answers))
		count("attack.resets", name, "resets", float64(stats.Resets))
		count("attack.served", name, "served", float64(stats.Served))
	}
	g.sampleProcesses(r)
}

// sampleNodes records what the nodes say of themselves. What they say is summed, and a sum without one of them would be wrong: without
// it nothing is recorded, and the next sample has what was counted meanwhile.
func (g *Rig) sampleNodes(ctx context.Context, r *record.Recorder) {
	pages, isWhole := g.scrape(ctx, r)
	if len(pages) == 0 || !isWhole {
		return
	}
	states := map[string]float64{}
	for _, state := range sessionStates() {
		states["sessions."+state] = 0
	}
	for _, page := range pages {
		g.sampleNode(r, page, states)
	}
	for name, value := range states {
		r.Gauge(name, "", value)
	}
}

// page is a node's metrics.
type page struct {
	name    string
	at      time.Time // when it had arrived
	samples []sample
}

// scrape reads the metrics of all nodes at once. They are whole if each node answered that no fault keeps from it.
func (g *Rig) scrape(ctx context.Context, r *record.Recorder) (pages []page, isWhole bool) {
	sources := map[string]string{}
	token := ""
	for _, n := range g.Nodes {
		if n.mustAnswer() {
			sources[n.Name] = n.Admin + "/metrics"
		}
	}
	if g.external != nil {
		token = g.external.Token
		for i, url := range g.external.Metrics {
			sources["node"+strconv.Itoa(i+1)] = url
		}
	}
	var mu sync.Mutex
	var reading sync.WaitGroup
	for name, url := range sources {
		reading.Go(func() {
			samples, err := readMetrics(ctx, url, token)
			at := time.Now()
			if err != nil && g.external != nil {
				r.Note(fmt.Sprintf("--metrics=%s could not be read at times: what nodes say of themselves is not known of these", result.HideCredentials(url)))
			}
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			pages = append(pages, page{name, at, samples})
		})
	}
	reading.Wait()
	return pages, len(pages) == len(sources)
}

// counters returns the counts of a result by the metrics that they are the sum of.
func counters() map[string]string {
	return map[string]string{
		"usher_free_rides_total":               "free_riders",
		"usher_free_ride_seconds_total":        "free_rider_seconds",
		"usher_refusals_total":                 "refusals",
		"usher_overloads_total":                "overloads",
		"usher_opening_duration_seconds_count": "sessions.opened",
		// A re-check is observed when recheck_rate lets it be made.
		"usher_backend_recheck_delay_seconds_count": "rechecks_granted",
		"usher_redis_round_trips_total":             "redis.round_trips",
		"usher_trace_spans_dropped_total":           "spans.dropped",
	}
}

// callsMetric counts the middleware's calls where the harness cannot.
const callsMetric = "usher_backend_call_duration_seconds_count"

// stateName returns the line of a sample that is a state at this time.
func (p *page) stateName(s sample) (name string, isState bool) {
	switch s.name {
	case "usher_sessions":
		return "sessions." + s.labels["state"], true
	case "usher_active_sessions":
		return "sessions." + p.name, true
	case "usher_redis_up":
		return "redis.up", true
	case "usher_backend_rechecks_waiting":
		return "rechecks.waiting", true
	case "usher_backend_breaker_state":
		return "breakers." + s.labels["state"], true
	}
	return "", false
}

func (g *Rig) sampleNode(r *record.Recorder, p page, states map[string]float64) {
	counts, counters := map[string]float64{}, counters()
	for _, name := range counters {
		counts[name] = 0 // a counter with labels is there once it has counted
	}
	for _, s := range p.samples {
		name, isState := p.stateName(s)
		switch {
		case isState:
			states[name] += s.value
		case s.name == "usher_decisions_total":
			counts["decisions."+s.labels["source"]] += s.value
		case s.name == callsMetric && g.Middleware == nil:
			counts[callsLine] += s.value
		default:
			if name, isKnown := counters[s.name]; isKnown {
				counts[name] += s.value
			}
		}
	}
	for name, total := range counts {
		n, over := g.sampler.grown(p.name, name, reading{total, p.at})
		r.Grown(name, n, over)
	}
	g.sampler.read[p.name] = p.at
}

// sampleProcesses reads what the processes use, on Linux.
func (g *Rig) sampleProcesses(r *record.Recorder) {
	now := time.Now()
	elapsed := now.Sub(g.sampler.sensed).Seconds()
	isFirst := g.sampler.sensed.IsZero()
	g.sampler.sensed = now
	add := func(name string, cpu time.Duration, resident uint64) {
		used, _ := g.sampler.grown("process "+name, "cpu", reading{cpu.Seconds(), now})
		g.sampler.cpu[name] += used
		if !isFirst {
			r.Gauge("cpu."+name, "cores", used/max(elapsed, 1e-3))
		}
		r.Gauge("memory."+name, "B", float64(resident))
		r.Process(result.Process{Name: name, CPUSeconds: g.sampler.cpu[name], Resident: resident})
	}
	for _, n := range g.Nodes {
		addPID(add, n.Name, n.PID())
	}
	if g.redis != nil {
		addPID(add, "redis", g.redis.running().PID())
	}
	if g.external != nil {
		for i, pid := range g.external.PIDs {
			addPID(add, fmt.Sprintf("server%d", i+1), pid)
		}
	}
	if a := g.attack.Load(); a != nil && a.PID() != 0 {
		addPID(add, result.Attacker, a.PID())
	}
	if g.peer != nil {
		if u, err := process.Measure(g.peer.PID()); err == nil {
			add(g.peer.Name, u.CPU, u.Resident)
		}
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err == nil {
		add(result.Generator, time.Duration(own.Utime.Nano()+own.Stime.Nano()), residentOf(os.Getpid()))
	}
}

func addPID(add func(string, time.Duration, uint64), name string, pid int) {
	resident := residentOf(pid)
	if cpu, err := process.CPU(pid); err == nil && resident > 0 { // else it has ended
		add(name, cpu, resident)
	}
}

// residentOf returns the resident memory of a process in bytes; 0: it has ended, or the system is not Linux.
func residentOf(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil || runtime.GOOS != "linux" {
		return 0
	}
	fields := bytes.Fields(text)
	const resident = 1
	if len(fields) <= resident {
		return 0
	}
	pages, _ := strconv.ParseUint(string(fields[resident]), 10, 64) // the kernel wrote it
	return pages * uint64(os.Getpagesize())
}
