package edge

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// MaxBody bounds the body of an edge's HTTP request, in bytes.
const MaxBody = 64 << 10

// errBody is the refusal of an edge's HTTP request for its body.
var errBody = errors.New("the body is incomplete or too large")

// Endpoint is a route's edge endpoint. It is safe for concurrent use.
type Endpoint struct {
	dialect  Dialect
	matching MatchMode
	networks []netip.Prefix
	// path is the path of the edge's requests, or with isPrefix what it begins with. It is empty for Envoy, which asks
	// by gRPC.
	path     string
	isPrefix bool

	unlisted, unreadable, unrouted warning
}

// NewEndpoint makes the endpoint of a valid config. The path is that of the edge's own requests and may end in *.
func NewEndpoint(c *Config, path string) *Endpoint {
	e := &Endpoint{dialect: c.Dialect, matching: c.MatchBy.OrDefault(c.Dialect), networks: c.Networks}
	if c.Dialect != Envoy {
		e.path, e.isPrefix = strings.CutSuffix(path, "*")
	}
	return e
}

// Dialect returns the dialect in which edges ask.
func (e *Endpoint) Dialect() Dialect { return e.dialect }

// Matching returns how requests without credentials are matched to a session.
func (e *Endpoint) Matching() MatchMode { return e.matching }

// MatchesPath reports whether an edge's request to that path is for the endpoint.
func (e *Endpoint) MatchesPath(path string) bool {
	if e.isPrefix {
		return strings.HasPrefix(path, e.path)
	}
	return e.path != "" && path == e.path
}

// Allows reports whether an edge at that address may ask.
func (e *Endpoint) Allows(edge netip.Addr) bool { return contains(e.networks, edge) }

// Matches reports whether the endpoint is for an edge that asks in that dialect at that path. A nil endpoint matches
// nothing.
func (e *Endpoint) Matches(d Dialect, edge netip.Addr, path string) bool {
	return e != nil && e.dialect == d && (d == Envoy || e.MatchesPath(path)) && e.Allows(edge)
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Endpoints are the endpoints of all routes, in the routes' order.
type Endpoints []*Endpoint

// AtPath returns the first endpoint at a path that allows the edge. If none does, it returns false and the first endpoint
// at the path, or nil.
func (all Endpoints) AtPath(path string, edge netip.Addr) (_ *Endpoint, isAllowed bool) {
	return all.find(edge, func(e *Endpoint) bool { return e.MatchesPath(path) })
}

// OfDialect does the same for edges that ask by other means than a path of the public listener.
func (all Endpoints) OfDialect(d Dialect, edge netip.Addr) (_ *Endpoint, isAllowed bool) {
	return all.find(edge, func(e *Endpoint) bool { return e.dialect == d })
}

func (all Endpoints) find(edge netip.Addr, matches func(*Endpoint) bool) (_ *Endpoint, isAllowed bool) {
	var first *Endpoint
	for _, e := range all {
		switch {
		case !matches(e):
		case e.Allows(edge):
			return e, true
		case first == nil:
			first = e
		}
	}
	return first, false
}

// Allow reports whether any endpoint allows an edge at that address.
func (all Endpoints) Allow(edge netip.Addr) bool {
	return slices.ContainsFunc(all, func(e *Endpoint) bool { return e.Allows(edge) })
}

// ReadBody reads the body of an edge's HTTP request. The body may be nil.
func ReadBody(body io.Reader) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(body, MaxBody+1))
	if err != nil || len(data) > MaxBody {
		return nil, errBody
	}
	return data, nil
}

// WarnUnlisted warns that an address outside the endpoint's networks asks. A nil endpoint does not warn.
func (e *Endpoint) WarnUnlisted(log *slog.Logger, address netip.Addr) {
	if e != nil && e.unlisted.isDue(time.Now()) {
		log.Warn("unlisted edge rejected, add it to the route's edge.networks if it is yours",
			slog.String("address", address.String()), slog.String("dialect", e.dialect.String()))
	}
}

// WarnUnreadable warns that the edge's requests cannot be decoded.
func (e *Endpoint) WarnUnreadable(log *slog.Logger, edge netip.Addr, err error) {
	if e.unreadable.isDue(time.Now()) {
		log.Warn("edge request invalid, viewers refused, set the edge up as in deploy/edges",
			slog.String("edge", edge.String()), slog.String("dialect", e.dialect.String()), slog.Any("error", err))
	}
}

// WarnUnrouted warns that viewers of the edge ask for what none of its routes serves. It does not log the path, which may
// hold credentials.
func (e *Endpoint) WarnUnrouted(log *slog.Logger, edge netip.Addr, route string) (hasWarned bool) {
	if !e.unrouted.isDue(time.Now()) {
		return false
	}
	log.Warn("no route matches at the edge, viewers refused, check edge.viewer_path and hosts",
		slog.String("edge", edge.String()), slog.String("route", route))
	return true
}

// warning limits the rate of one warning. It holds when the last one was written, in Unix seconds.
type warning struct{ at atomic.Int64 }

// warnEvery is the shortest time between two warnings of one kind, so that a misconfigured edge does not flood the log.
const warnEvery = time.Minute

// isDue reports whether the last warning is warnEvery ago. If so it counts one as written now.
func (w *warning) isDue(now time.Time) bool {
	last := w.at.Load()
	return now.Unix()-last >= int64(warnEvery/time.Second) && w.at.CompareAndSwap(last, now.Unix())
}
