package table

import (
	"context"
	"fmt"
	"time"

	"usher/bench/load"
	"usher/bench/process"
)

// residentBefore is how many sessions the small node of the row on a million has.
const residentBefore = 2000

// sessionToken returns the token of a session among many: 64 characters.
func sessionToken(i int) string { return fmt.Sprintf("good-%059d", i) }

// sessionChannels is over how many channels the sessions are spread.
const sessionChannels = 500

func sessionTarget(t *target, i int) string {
	return t.request(fmt.Sprintf("/single/ch%03d/index.m3u8", i%sessionChannels), sessionToken(i))
}

// open opens sessions, one request each, and returns the load's result and the node's CPU time.
func open(ctx context.Context, t *target, sessions int) (*load.Result, time.Duration, error) {
	before, err := process.CPU(t.pid)
	if err != nil {
		return nil, 0, err
	}
	each := (sessions + fewConnections - 1) / fewConnections
	r := load.Run(ctx, load.Options{
		Address: t.address, Connections: fewConnections, Limit: each,
		Next: func(connection, n int) load.Request {
			return load.Request{Head: load.Get(t.address, sessionTarget(t, connection*each+n)), First: firstPlaylist}
		},
	}, nil)
	after, err := process.CPU(t.pid)
	if err == nil && r.Failed() > 0 {
		err = fmt.Errorf("%d of %d sessions were not opened: %v", r.Failed(), sessions, r.Failures)
	}
	return r, after - before, err
}

// million opens the sessions on one node, and a few on another. Then both serve the same requests in alternation.
func million(ctx context.Context, b *bed) ([]Line, error) {
	long := setting{validity: 2 * time.Hour, idle: 2 * time.Hour}
	names := map[bool]string{false: fmt.Sprintf("%s sessions", thousands(residentBefore)), true: thousands(float64(b.Sessions)) + " sessions"}
	var all []*target
	var opened *load.Result
	var spent time.Duration
	var resident uint64
	for _, isLarge := range []bool{false, true} {
		t, err := b.start(ctx, usherName, long)
		if err != nil {
			return nil, err
		}
		defer t.close()
		t.name = names[isLarge]
		all = append(all, t)
		n := residentBefore
		if isLarge {
			n = b.Sessions
		}
		if opened, spent, err = open(ctx, t, n); err != nil {
			return nil, err
		}
		u, err := process.Measure(t.pid)
		if err != nil {
			return nil, err
		}
		resident = u.Resident
		b.say("million: %s opened at %s/s, %s of CPU; %.2f GB resident", t.name, thousands(opened.PerSecond()), spent, float64(resident)/1e9)
	}
	r, err := b.alternate(ctx, "million", fewConnections, all, func(_ context.Context, t *target) (func(int, int) load.Request, error) {
		requests := make([]load.Request, tokens)
		for i := range requests {
			requests[i] = load.Request{Head: load.Get(t.address, sessionTarget(t, i)), First: firstPlaylist}
		}
		return shuffled(requests), nil
	})
	if err != nil {
		return nil, err
	}
	settled, err := process.Measure(all[1].pid)
	if err != nil {
		return nil, err
	}
	lines := millionLines(b, r, names, opened.PerSecond(), spent, resident)
	lines[0].Usher += fmt.Sprintf("; %.2f GB after the load below", float64(settled.Resident)/1e9)
	return lines, nil
}

func millionLines(b *bed, r *runs, names map[bool]string, opened float64, spent time.Duration, resident uint64) []Line {
	const mostBytes, leastRate, mostP99 = 1000.0, 0.9, 1.3 // a gigabyte for a million
	perSession := float64(resident) / float64(b.Sessions)
	few, many := r.samples[names[false]], r.samples[names[true]]
	rate, slower := compare(many, few, perSecond), compare(many, few, p99)
	return []Line{
		{
			Work: names[true] + " live, opened over HTTP", Goal: "≤ 1.0 GB resident for a million", Peers: "–",
			Usher: fmt.Sprintf("%.2f GB resident, %s bytes a session; %s openings/s, %.0f µs of CPU each",
				float64(resident)/1e9, thousands(perSession), thousands(opened), spent.Seconds()*1e6/float64(b.Sessions)),
			Ratio: "–", Met: perSession <= mostBytes,
		},
		{
			Work: "the same requests while they live", Goal: "≥ 0.9 of the throughput, p99 ≤ × 1.3",
			Peers: "Usher with " + names[false] + ": " + r.describe(names[false]), Usher: r.describe(names[true]),
			Ratio: fmt.Sprintf("**%s**; p99 × %s", rate, slower), Met: rate.median >= leastRate && slower.median <= mostP99,
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
