package table

import (
	"context"
	"fmt"
	"strings"
	"time"

	"usher/bench/load"
	"usher/bench/process"
)

// sessionToken returns the token of a session among many: 64 characters.
func sessionToken(i int) string { return fmt.Sprintf("good-%059d", i) }

// sessionPath returns the playlist of a session among many.
func sessionPath(i int) string {
	const channels = 500
	return fmt.Sprintf("/single/ch%03d/index.m3u8", i%channels)
}

// sessionHead is the request of a session among many.
func sessionHead(t *target, i int) []byte {
	return load.Get(t.address, t.request(sessionPath(i), sessionToken(i)))
}

// open opens sessions, one request each, and returns the load's result and the node's CPU time.
func open(ctx context.Context, t *target, sessions int, head func(*target, int) []byte) (*load.Result, time.Duration, error) {
	before, err := process.CPU(t.pid)
	if err != nil {
		return nil, 0, err
	}
	each := (sessions + fewConnections - 1) / fewConnections
	r := load.Run(ctx, load.Options{
		Address: t.address, Connections: fewConnections, Limit: each,
		Next: func(connection, n int) load.Request {
			return load.Request{Head: head(t, min(connection*each+n, sessions-1)), First: firstPlaylist}
		},
	}, nil)
	after, err := process.CPU(t.pid)
	if err == nil && r.Failed() > 0 {
		err = fmt.Errorf("%d of %d sessions were not opened: %v", r.Failed(), sessions, r.Failures)
	}
	return r, after - before, err
}

// sizes returns how many sessions the nodes of the row on a million have: from as many as there are tokens, by tens.
func sizes(most int) []int {
	var all []int
	for n := tokens; n < most; n *= 10 {
		all = append(all, n)
	}
	return append(all, most)
}

// populated is a node with sessions.
type populated struct {
	*target
	sessions int
	opened   *load.Result
	spent    time.Duration // CPU, for the openings
	resident uint64
}

// populate starts a node and opens sessions by their first requests. key is that of the row.
func (b *bed) populate(ctx context.Context, key string, sessions int, s setting, head func(*target, int) []byte) (*populated, error) {
	t, err := b.start(ctx, usherName, s)
	if err != nil {
		return nil, err
	}
	t.name = thousands(float64(sessions)) + " sessions"
	c := &populated{target: t, sessions: sessions}
	if c.opened, c.spent, err = open(ctx, t, sessions, head); err == nil {
		c.resident, err = c.memory()
	}
	if err != nil {
		t.close()
		return nil, err
	}
	b.say("%s: %s opened at %s/s, %s of CPU; %.2f GB resident", key, t.name, thousands(c.opened.PerSecond()), c.spent, float64(c.resident)/1e9)
	return c, nil
}

// memory returns what the node holds in bytes.
func (c *populated) memory() (uint64, error) {
	u, err := process.Measure(c.pid)
	return u.Resident, err
}

// million opens sessions on nodes, ten times as many on each as on the one before. Then all serve the same requests in alternation.
func million(ctx context.Context, b *bed) ([]Line, error) {
	var nodes []*populated
	var all []*target
	for _, n := range sizes(b.Sessions) {
		c, err := b.populate(ctx, "million", n, setting{validity: 2 * time.Hour, idle: 2 * time.Hour}, sessionHead)
		if err != nil {
			return nil, err
		}
		defer c.close()
		nodes, all = append(nodes, c), append(all, c.target)
	}
	r, err := b.alternate(ctx, "million", fewConnections, all, func(_ context.Context, t *target) (func(int, int) load.Request, error) {
		requests := make([]load.Request, tokens)
		for i := range requests {
			requests[i] = load.Request{Head: sessionHead(t, i), First: firstPlaylist}
		}
		return shuffled(requests), nil
	})
	if err != nil {
		return nil, err
	}
	settled, err := nodes[len(nodes)-1].memory()
	if err != nil {
		return nil, err
	}
	b.note("CPU of a playlist by the number of live sessions:\n\n" + plotCosts(r))
	return millionLines(r, nodes, settled), nil
}

// plotCosts draws a bar for each server, as long as a request's CPU.
func plotCosts(r *runs) string {
	const width = 50
	highest := time.Nanosecond.Seconds() // the kernel counts CPU in ticks, so that a short round on a busy machine has none
	for _, name := range r.names {
		highest = max(highest, median(r.samples[name], cpu))
	}
	var plot strings.Builder
	for _, name := range r.names {
		cost := median(r.samples[name], cpu)
		fmt.Fprintf(&plot, "    %20s %s %.1f µs\n", name, strings.Repeat("█", 1+int(cost/highest*(width-1)+0.5)), cost*1e6)
	}
	return strings.TrimSuffix(plot.String(), "\n")
}

func millionLines(r *runs, nodes []*populated, settled uint64) []Line {
	const mostBytes, leastRate, mostP99, mostCost = 1000.0, 0.9, 1.3, 1.15 // a gigabyte for a million
	first, last := nodes[0], nodes[len(nodes)-1]
	n := float64(last.sessions)
	few, many := r.samples[first.name], r.samples[last.name]
	served := failed(few)+failed(many) == 0
	rate, slower, cost := compare(many, few, perSecond), compare(many, few, p99), compare(many, few, cpu)
	var costs []string
	for _, c := range nodes {
		costs = append(costs, fmt.Sprintf("%s %.1f µs", thousands(float64(c.sessions)), median(r.samples[c.name], cpu)*1e6))
	}
	return []Line{
		{
			Work: last.name + " live, opened over HTTP", Goal: "≤ 1.0 GB resident for a million", Peers: "–",
			Usher: fmt.Sprintf("%.2f GB resident, %s bytes a session; %s openings/s, %.0f µs of CPU each; %.2f GB after the load below",
				float64(last.resident)/1e9, thousands(float64(last.resident)/n), thousands(last.opened.PerSecond()), last.spent.Seconds()*1e6/n,
				float64(settled)/1e9),
			Ratio: "–", Met: float64(last.resident)/n <= mostBytes,
		},
		{
			Work: "the same requests while they live", Goal: "≥ 0.9 of the throughput, p99 ≤ × 1.3",
			Peers: "Usher with " + first.name + ": " + r.describe(first.name), Usher: r.describe(last.name),
			Ratio: fmt.Sprintf("**%s**; p99 × %s", rate, slower), Met: rate.median >= leastRate && slower.median <= mostP99 && served,
		},
		{
			Work: "CPU of a playlist by the number of live sessions", Goal: "flat within 15 %", Peers: "–",
			Usher: strings.Join(costs, "; "), Ratio: fmt.Sprintf("**%s**", cost), Met: cost.median <= mostCost && served,
		},
	}
}

// idleConnections is as many as a process with the usual limit of open files can have.
const idleConnections = 5000

// idle measures what an idle keep-alive connection holds.
func idle(ctx context.Context, b *bed) ([]Line, error) {
	names := []string{"nginx-auth", usherName}
	bytes := make(map[string][]float64)
	for range b.Rounds {
		for _, name := range names {
			t, err := b.start(ctx, name, setting{})
			if err != nil {
				return nil, err
			}
			perConnection, err := idleBytes(ctx, t)
			t.close()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			bytes[name] = append(bytes[name], perConnection)
			b.say("idle: %s holds %.0f bytes for each of %d connections", name, perConnection, idleConnections)
		}
	}
	const most = 6000
	us, them := medianOf(bytes[usherName]), medianOf(bytes[names[0]])
	return []Line{{
		Work: "idle keep-alive connections, memory of the process for each of " + thousands(idleConnections), Goal: "≤ 6 kB",
		Peers: fmt.Sprintf("nginx-auth %.1f kB", them/1e3), Usher: fmt.Sprintf("%.1f kB", us/1e3), Ratio: "–", Met: us <= most,
	}}, nil
}

// idleBytes opens connections that have sent one request each, and returns what the server holds for one of them.
func idleBytes(ctx context.Context, t *target) (float64, error) {
	requests := playlistRequests(t, tokens)
	next := func(connection, _ int) load.Request { return requests[connection%tokens] }
	// The memory of sessions and buffers is there before the connections.
	load.Run(ctx, load.Options{Address: t.address, Connections: fewConnections, Limit: 100, Next: shuffled(requests)}, nil)
	before, err := process.Measure(t.pid)
	if err != nil {
		return 0, err
	}
	var after process.Usage
	held := load.Options{Address: t.address, Connections: idleConnections, Limit: 1, Next: next}
	held.Held = func() { after, err = process.Measure(t.pid) }
	if r := load.Run(ctx, held, nil); err == nil && r.Failed() > 0 {
		err = fmt.Errorf("%d of %d connections failed: %v", r.Failed(), idleConnections, r.Failures)
	}
	return (float64(after.Resident) - float64(before.Resident)) / idleConnections, err
}
