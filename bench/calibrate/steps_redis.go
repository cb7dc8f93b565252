package calibrate

import (
	"context"
	"fmt"
	"time"

	"usher/backends/backendtest"
	"usher/bench/rig"
)

const (
	// recheckRate keeps a slow machine from having re-checks alone to do, and rechecked sessions reach it.
	recheckRate = 2000
	rechecked   = 32 * connections
	// minHeartbeat is the shortest cluster.heartbeat_interval.
	minHeartbeat = time.Second
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
	return c.wait(ctx, g, step, units*c.unit)
}

// measureHeartbeats measures heartbeats of sessions, and of those whose user has a stream limit.
func (c *calibration) measureHeartbeats(ctx context.Context) error {
	interval := max(minHeartbeat, c.unit.Round(time.Second))
	g, err := c.start(ctx, rig.Options{Redis: true, Settings: settings(interval.String())})
	if err != nil {
		return err
	}
	defer g.Close()
	_, opened, err := c.open(ctx, g, "openings before heartbeats")
	if err != nil {
		return err
	}
	// The node reports the new sessions, then nothing.
	if err := pause(ctx, 2*interval); err != nil {
		return err
	}
	idle, err := c.wait(ctx, g, "nothing", interval)
	if err != nil {
		return err
	}
	// Each viewer requests once. The node reports most of them afterwards.
	viewers := int(opened) / connections * connections
	if err := visit(ctx, g, viewers, playlistOf(g, plainToken)); err != nil {
		return err
	}
	u, err := c.wait(ctx, g, "heartbeats", interval)
	if err != nil {
		return err
	}
	u = u.beyond(idle)
	const reported, renewed = "zadd", "hset" // the commands of a heartbeat, and of one with a limit
	c.found("heartbeat_us", micros(u.node, u.commands[reported]))
	c.found("redis_heartbeat_us", micros(u.redis, u.commands[reported]))
	if err := c.openLimited(ctx, g); err != nil {
		return err
	}
	if err := pause(ctx, 2*interval); err != nil {
		return err
	}
	// Streams are renewed with each heartbeat, also those whose viewers request nothing.
	if u, err = c.wait(ctx, g, "heartbeats with a limit", 2*interval); err != nil {
		return err
	}
	u = u.beyond(idle)
	c.found("limited_heartbeat_us", micros(u.node, u.commands[renewed]))
	c.found("redis_limited_heartbeat_us", micros(u.redis, u.commands[renewed]))
	return nil
}

// limited is how many users with a stream limit there are.
const limited = 64 * connections

// openLimited has viewers arrive whose users may play two streams.
func (c *calibration) openLimited(ctx context.Context, g *rig.Rig) error {
	for i := range limited {
		token := limitedToken(i)
		g.Middleware.SetUser(token, backendtest.User{ID: token, MaxSessions: 2})
	}
	if err := visit(ctx, g, limited, playlistOf(g, limitedToken)); err != nil {
		return fmt.Errorf("openings with a limit: %w", err)
	}
	return nil
}
