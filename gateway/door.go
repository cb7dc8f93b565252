package gateway

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"usher/gateway/authz"
	"usher/gateway/hls"
)

// door is where an edge asks.
type door struct {
	at        *pattern // of the edge's own requests; nil for Envoy, who asks elsewhere
	dialect   authz.Dialect
	recognise authz.Recognition
	networks  []netip.Prefix
	// What the operator was told of: strangers, questions that cannot be read, viewers whom no route is for.
	strange, unread, unrouted warning
}

// warning is when the operator was last told of one thing, in Unix seconds.
type warning struct{ at atomic.Int64 }

// warnEvery spaces what the operator is told of one thing, so that an edge that is set up wrongly fills no log.
const warnEvery = time.Minute

// openDoor completes a route for an edge. Errors begin with the key within the route.
func (r *route) openDoor() error {
	c := r.config.Edge
	r.door = &door{dialect: c.Dialect, recognise: c.MatchBy.For(c.Dialect), networks: c.Networks}
	if r.door.recognise == authz.RecogniseCookie {
		r.config.TicketIn = hls.TicketInCookie
	}
	if c.Dialect != authz.Envoy {
		at, err := parsePath(r.config.Path)
		if err != nil {
			return fmt.Errorf("path: %w", err)
		}
		if len(at.names) > 1 || len(at.names) == 1 && at.names[0] != restVariable {
			return fmt.Errorf("path: %q is where the edge asks, so only a * at its end may vary", r.config.Path)
		}
		r.door.at = at
	}
	viewer, err := parsePath("/*")
	if c.ViewerPath != "" {
		viewer, err = parsePattern(c.ViewerPath)
	}
	if err != nil {
		return fmt.Errorf("edge.viewer_path: %w", err)
	}
	r.places = []place{{viewer: viewer, origin: viewer, same: true}}
	return nil
}

// isAt reports whether an edge's request with that path is for the door.
func (d *door) isAt(path string) bool {
	if d.at == nil {
		return false
	}
	_, ok := d.at.match(path)
	return ok
}

// isFor reports whether the door is for an edge who asks in that dialect, at that path. A route without a door is not.
func (d *door) isFor(dialect authz.Dialect, edge netip.Addr, path string) bool {
	return d != nil && d.dialect == dialect && (d.at == nil || d.isAt(path)) && d.lets(edge)
}

// lets reports whether an edge at that address is heard.
func (d *door) lets(edge netip.Addr) bool { return isTrusted(edge, d.networks) }

// mayWarn reports whether the operator has not been told for a while, and notes that he is now.
func (w *warning) mayWarn(now time.Time) bool {
	last := w.at.Load()
	return now.Unix()-last >= int64(warnEvery/time.Second) && w.at.CompareAndSwap(last, now.Unix())
}

// margin is how long the route's sessions outlast their validity; zero where it serves media itself.
func (r *route) margin() time.Duration {
	if r.door == nil {
		return 0
	}
	return r.config.Edge.ExtraLifetime
}

// edgeTarget is what a viewer wants at an edge. The channel is as the edge names it, else as the viewer's path does.
func (r *route) edgeTarget(q *authz.Question) (target, bool) {
	t := target{path: q.Path}
	if t.path == "" {
		t.path = "/"
	}
	if !r.servesHost(q.Host) || !t.at(r, 0) {
		return target{}, false
	}
	switch {
	case q.Channel != "":
		t.channel = q.Channel
	case r.config.Edge.ViewerPath == "":
		t.channel = t.path
	}
	return t, true
}
