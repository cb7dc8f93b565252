package calibrate

import (
	"context"
	"fmt"
	"time"

	"usher/backends/backendtest"
	"usher/bench/rig"
)

const (
	// recheckRate is more than a machine can, and rechecked sessions want a re-check each second: calls are as many at once as
	// on a full node, and share round trips as there.
	recheckRate = 100_000
	rechecked   = 128 * connections
	// reported sessions are enough for their heartbeats to be seen beside an idle node's work.
	reported = 256 * connections
	// heartbeatInterval is the shortest that a node accepts.
	heartbeatInterval = time.Second
	// limited is how many users with a stream limit there are.
	limited = 64 * connections
)

// measureOpening measures openings of a node with Redis.
func (c *calibration) measureOpening(ctx context.Context) error {
	g, err := c.start(ctx, rig.Options{Redis: true})
	if err != nil {
		return err
	}
	defer g.Close()
	u, _, err := c.open(ctx, g, "openings")
	if err != nil {
		return err
	}
	c.found("opening_us", micros(u.node, u.calls))
	c.found("redis_opening_us", micros(u.redis, u.calls))
	c.found("redis_session_bytes", u.redisBytes/u.calls)
	return nil
}

// measureRecheckAlone measures re-checks of a node without Redis.
func (c *calibration) measureRecheckAlone(ctx context.Context) error {
	u, err := c.recheck(ctx, "re-checks without Redis", rig.Options{})
	if err == nil {
		c.found("recheck_alone_us", micros(u.node, u.calls))
	}
	return err
}

// measureRecheck measures re-checks of a node with Redis.
func (c *calibration) measureRecheck(ctx context.Context) error {
	u, err := c.recheck(ctx, "re-checks", rig.Options{Redis: true})
	if err == nil {
		c.found("recheck_us", micros(u.node, u.calls))
		c.found("redis_recheck_us", micros(u.redis, u.calls))
	}
	return err
}

// recheck returns what a node uses whose sessions are re-checked each second, while no viewer requests anything.
func (c *calibration) recheck(ctx context.Context, step string, o rig.Options) (u usage, err error) {
	o.Validity = time.Second
	g, err := c.start(ctx, o)
	if err != nil {
		return u, err
	}
	defer g.Close()
	if err := visit(ctx, g, rechecked, playlistOf(g, plainToken)); err != nil {
		return u, err
	}
	if err := pause(ctx, o.Validity); err != nil { // all wait for their turn now
		return u, err
	}
	const units = 2
	for range mostWindows {
		one, err := c.wait(ctx, g, step, units*c.unit)
		if err != nil {
			return u, err
		}
		if u = u.plus(one); u.calls >= leastOperations {
			break
		}
	}
	return u, nil
}

// measureHeartbeats measures heartbeats of sessions, and of those whose user has a stream limit.
func (c *calibration) measureHeartbeats(ctx context.Context) error {
	const interval = heartbeatInterval
	g, err := c.start(ctx, rig.Options{Redis: true, Settings: settings(interval.String())})
	if err != nil {
		return err
	}
	defer g.Close()
	if err := visit(ctx, g, reported, playlistOf(g, plainToken)); err != nil {
		return err
	}
	// The node reports the new sessions, then nothing.
	if err := pause(ctx, 2*interval); err != nil {
		return err
	}
	idle, err := c.idle(ctx, g, 2*interval)
	if err != nil {
		return err
	}
	u, err := c.heartbeats(ctx, g, idle)
	if err != nil {
		return err
	}
	u = u.beyond(idle)
	c.found("heartbeat_us", micros(u.node, u.commands["zadd"]))
	c.found("redis_heartbeat_us", micros(u.redis, u.commands["zadd"]))
	if err := c.openLimited(ctx, g); err != nil {
		return err
	}
	if err := pause(ctx, interval); err != nil {
		return err
	}
	// Streams are renewed with each heartbeat, for a while also those whose viewers request nothing any more.
	if u, err = c.wait(ctx, g, "heartbeats with a limit", 2*interval); err != nil {
		return err
	}
	u = u.beyond(idle)
	c.found("limited_heartbeat_us", micros(u.node, u.commands["hset"]))
	c.found("redis_limited_heartbeat_us", micros(u.redis, u.commands["hset"]))
	return nil
}

// idle returns what servers use that have nothing to do: the least of some windows, because on a busy machine what the requests before
// have begun goes on for longer than expected.
func (c *calibration) idle(ctx context.Context, g *rig.Rig, window time.Duration) (least usage, err error) {
	const windows = 3
	for i := range windows {
		u, err := c.wait(ctx, g, "nothing", window)
		if err != nil {
			return u, err
		}
		if i == 0 || u.node+u.redis < least.node+least.redis {
			least = u
		}
	}
	return least, nil
}

// heartbeats has all viewers request once, again and again, and returns what was used in the intervals afterwards: the node then
// reports most of them.
func (c *calibration) heartbeats(ctx context.Context, g *rig.Rig, idle usage) (all usage, err error) {
	const units, most = 3, 8
	end := time.Now().Add(units * c.unit)
	for range most {
		if err := visit(ctx, g, reported, playlistOf(g, plainToken)); err != nil {
			return all, err
		}
		u, err := c.wait(ctx, g, "heartbeats", heartbeatInterval)
		if err != nil {
			return all, err
		}
		if all = all.plus(u); time.Now().After(end) && all.beyond(idle).node > 0 {
			break
		}
	}
	return all, nil
}

// openLimited has viewers begin to play whose users may play two streams.
func (c *calibration) openLimited(ctx context.Context, g *rig.Rig) error {
	for i := range limited {
		token := limitedToken(i)
		g.Middleware.SetUser(token, backendtest.User{ID: token, MaxSessions: 2})
	}
	for range 2 { // with the second playlist they play
		if err := visit(ctx, g, limited, playlistOf(g, limitedToken)); err != nil {
			return fmt.Errorf("openings with a limit: %w", err)
		}
	}
	return nil
}
