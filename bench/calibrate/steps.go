package calibrate

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"usher/bench/load"
	"usher/bench/process"
	"usher/bench/rig"
)

const (
	// known is how many viewers the node knows before anything is measured, so that its buffers and caches are there.
	known = 16 * connections
	// idleConnections is as many as a process with a low limit of open files can have.
	idleConnections = 2000
	// openingUnits is for how many units viewers arrive, so that their sessions are many beside what else a node holds.
	openingUnits = 2
	largeSegment = 1_000_000
	// many further sessions show what one holds, however few arrived before.
	many = 128 * connections
)

// start starts the servers of a step, and has the node know the first viewers.
func (c *calibration) start(ctx context.Context, o rig.Options) (*rig.Rig, error) {
	const room, validity, interval = 2_000_000, time.Hour, "10m"
	o.Server, o.Binary, o.Nodes, o.Sessions, o.OnFailure = rig.Usher, c.Usher, 1, room, "allow"
	if o.Validity == 0 {
		o.Validity = validity
	}
	if o.RecheckRate == 0 {
		o.RecheckRate = recheckRate
	}
	if o.Segment = time.Second; o.Settings == nil {
		o.Settings = settings(interval)
	}
	g, err := rig.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := visit(ctx, g, known, playlistOf(g, plainToken)); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// settings keep sessions for longer than the step, and have the node report heartbeats at an interval.
func settings(interval string) map[string]any {
	return map[string]any{
		"sessions": map[string]any{"idle_timeout": "1h"}, "cluster": map[string]any{"heartbeat_interval": interval, "session_ttl": "2h"},
	}
}

// visit makes each of n requests once, n a multiple of connections.
func visit(ctx context.Context, g *rig.Rig, n int, request func(i int) load.Request) error {
	return failed(ctx, load.Run(ctx, load.Options{
		Address: host(g), Connections: connections, Limit: n / connections, Next: once(request),
	}, nil))
}

var errFailed = errors.New("requests failed")

// failed bounds how many requests may fail: a few do on a machine with much else to do, and change no cost.
func failed(ctx context.Context, r *load.Result) error {
	const oneOf = 100
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.Served == 0 || r.Failed() > r.Served/oneOf {
		return fmt.Errorf("%w: %d of %d: %v", errFailed, r.Failed(), r.Failed()+r.Served, r.Failures)
	}
	return nil
}

// failedWindow is failed, but for a window in which no request ended: on a machine with much else to do that is no failure yet.
func failedWindow(ctx context.Context, r *load.Result) error {
	if ctx.Err() == nil && r.Served+r.Failed() == 0 {
		return nil
	}
	return failed(ctx, r)
}

const (
	// A step is repeated until it has done leastOperations, mostWindows times at most: a machine with much else to do may do none
	// at first.
	leastOperations = 100
	mostWindows     = 10
)

// load sends requests for a time after a warm-up of a quarter, and returns what was used.
func (c *calibration) load(
	ctx context.Context, g *rig.Rig, step string, length time.Duration, connections int, next func(connection, n int) load.Request,
) (all usage, err error) {
	const warmShare = 4
	for range mostWindows {
		var before reading
		var failedBefore error
		r := load.Run(ctx, load.Options{
			Address: host(g), Connections: connections, Next: next, Warm: length / warmShare, For: length,
		}, func() { before, failedBefore = read(ctx, g) })
		after, err := read(ctx, g)
		if err := errors.Join(failedBefore, err, failedWindow(ctx, r)); err != nil {
			return all, fmt.Errorf("%s: %w", step, err)
		}
		u := after.minus(before)
		u.served, u.bytes = float64(r.Served), float64(r.Bytes)
		c.notes.add(step, u)
		if all = all.plus(u); all.served >= leastOperations {
			break
		}
	}
	if all.served == 0 {
		return all, fmt.Errorf("%s: %w: none was answered in %d times %v", step, errFailed, mostWindows, length)
	}
	return all, nil
}

// wait lets time pass, and returns what was used in it.
func (c *calibration) wait(ctx context.Context, g *rig.Rig, step string, length time.Duration) (u usage, err error) {
	before, err := read(ctx, g)
	if err != nil {
		return u, err
	}
	if err := pause(ctx, length); err != nil {
		return u, err
	}
	after, err := read(ctx, g)
	u = after.minus(before)
	c.notes.add(step, u)
	return u, err
}

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// resident returns the memory of the rig's node in bytes.
func resident(g *rig.Rig) (float64, error) {
	u, err := process.Measure(g.Nodes[0].PID())
	return float64(u.Resident), err
}

// open has new viewers arrive, and returns what was used, and how many there were in all, with those of the warm-up.
func (c *calibration) open(ctx context.Context, g *rig.Rig, step string) (u usage, all float64, err error) {
	before := g.Middleware.Calls()
	request, serial := playlistOf(g, plainToken), new(atomic.Int64)
	u, err = c.load(ctx, g, step, openingUnits*c.unit, connections, func(int, int) load.Request {
		return request(known + int(serial.Add(1)))
	})
	return u, float64(g.Middleware.Calls() - before), err
}

// measureServing measures a node without Redis: its memory, openings, playlists and questions of edges.
func (c *calibration) measureServing(ctx context.Context) error {
	g, err := c.start(ctx, rig.Options{})
	if err != nil {
		return err
	}
	defer g.Close()
	before, err := resident(g)
	if err != nil {
		return err
	}
	c.found("node_bytes", before)
	opening, sessions, err := c.open(ctx, g, "openings without Redis")
	if err != nil {
		return err
	}
	c.found("opening_alone_us", micros(opening.node, opening.calls))
	const unseen = 1_000_000
	request := playlistOf(g, plainToken)
	if err := visit(ctx, g, many, func(i int) load.Request { return request(unseen + i) }); err != nil {
		return err
	}
	after, err := resident(g)
	if err != nil {
		return err
	}
	c.found("session_bytes", (after-before)/(sessions+many))
	playlists, err := c.load(ctx, g, "playlists", c.unit, connections, repeated(prepare(known, playlistOf(g, plainToken))))
	if err != nil {
		return err
	}
	c.found("playlist_us", micros(playlists.node, playlists.served))
	if err := visit(ctx, g, known, authQuestion(g)); err != nil {
		return err
	}
	questions, err := c.load(ctx, g, "questions of edges", c.unit, connections, repeated(prepare(known, authQuestion(g))))
	if err != nil {
		return err
	}
	c.found("auth_question_us", micros(questions.node, questions.served))
	return nil
}

// measureConnections measures what an idle connection holds, on a node whose memory has nothing to spare yet.
func (c *calibration) measureConnections(ctx context.Context) error {
	g, err := c.start(ctx, rig.Options{})
	if err != nil {
		return err
	}
	defer g.Close()
	before, err := resident(g)
	if err != nil {
		return err
	}
	var after float64
	request := playlistOf(g, plainToken)
	r := load.Run(ctx, load.Options{
		Address: host(g), Connections: idleConnections, Limit: 1, Next: func(connection, _ int) load.Request { return request(connection % known) },
		Held: func() { after, err = resident(g) },
	}, nil)
	if err := errors.Join(err, failed(ctx, r)); err != nil {
		return fmt.Errorf("idle connections: %w", err)
	}
	c.found("connection_bytes", (after-before)/idleConnections)
	return nil
}

// measureSegments measures cached segments of two sizes.
func (c *calibration) measureSegments(ctx context.Context) error {
	// What is in flight at the end is not counted, and a large segment takes long.
	const few = 16
	var size, cost [2]float64
	for i, least := range []int{0, largeSegment} {
		g, err := c.start(ctx, rig.Options{SegmentSize: least})
		if err != nil {
			return err
		}
		defer g.Close()
		requests, err := segments(ctx, g)
		if err != nil {
			return err
		}
		u, err := c.load(ctx, g, fmt.Sprintf("segments of %d bytes", least), c.unit, few, repeated(requests))
		if err != nil {
			return err
		}
		size[i], cost[i] = u.bytes/u.served, micros(u.node, u.served)
	}
	each, megabyte := twoSizes(size[0], cost[0], size[1], cost[1])
	c.found("segment_us", each)
	c.found("segment_megabyte_us", megabyte)
	return nil
}
