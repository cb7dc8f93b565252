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

// errBody is why an edge's HTTP request with a body is refused.
var errBody = errors.New("the body is broken or too large")

// Endpoint is where an edge asks. It is safe for concurrent use.
type Endpoint struct {
	dialect  Dialect
	matching MatchMode
	networks []netip.Prefix
	// path is where the edge asks, or with isPrefix what its paths begin with. It is empty for Envoy, which asks elsewhere.
	path     string
	isPrefix bool
	// What the operator is warned of, each at most once in warnEvery.
	unlisted, unreadable, unrouted warning
}

// NewEndpoint makes the endpoint of a valid config. The path is the edge's own, with or without a * at its end.
func NewEndpoint(c *Config, path string) *Endpoint {
	e := &Endpoint{dialect: c.Dialect, matching: c.MatchBy.OrDefault(c.Dialect), networks: c.Networks}
	if c.Dialect != Envoy {
		e.path, e.isPrefix = strings.CutSuffix(path, "*")
	}
	return e
}

// Dialect is the one in which edges ask here.
func (e *Endpoint) Dialect() Dialect { return e.dialect }

// Matching is how requests without credentials are matched to a session.
func (e *Endpoint) Matching() MatchMode { return e.matching }

// MatchesPath reports whether an edge's request with that path is for the endpoint.
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

// Endpoints are those of all routes, in the routes' order.
type Endpoints []*Endpoint

// AtPath returns the first endpoint at a path that allows the edge. Where none does it returns the first endpoint at the
// path, or nil, and false.
func (all Endpoints) AtPath(path string, edge netip.Addr) (_ *Endpoint, isAllowed bool) {
	return all.find(edge, func(e *Endpoint) bool { return e.MatchesPath(path) })
}

// OfDialect is AtPath for edges that ask by other means than a path of the public listener.
func (all Endpoints) OfDialect(d Dialect, edge netip.Addr) (_ *Endpoint, isAllowed bool) {
	return all.find(edge, func(e *Endpoint) bool { return e.dialect == d })
}

func (all Endpoints) find(edge netip.Addr, matches func(*Endpoint) bool) (_ *Endpoint, isAllowed bool) {
	var first *Endpoint
	for _, e := range all {
		switch {
		case !matches(e):
			continue
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

// ReadBody reads the body of an edge's HTTP request, which may be nil.
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

// WarnUnlisted warns that an address asks that is none of the endpoint's networks. A nil endpoint warns of nothing.
func (e *Endpoint) WarnUnlisted(log *slog.Logger, address netip.Addr) {
	if e != nil && e.unlisted.isDue(time.Now()) {
		log.Warn("somebody asks who is no edge; if he is one of yours, add him to the route's edge.networks",
			slog.String("address", address.String()), slog.String("dialect", e.dialect.String()))
	}
}

// WarnUnreadable warns that the edge's requests cannot be read.
func (e *Endpoint) WarnUnreadable(log *slog.Logger, edge netip.Addr, err error) {
	if e.unreadable.isDue(time.Now()) {
		log.Warn("an edge asks in words that cannot be read, so its viewers are refused",
			slog.String("edge", edge.String()), slog.String("dialect", e.dialect.String()), slog.Any("error", err))
	}
}

// WarnUnrouted warns that viewers of the edge want what none of its routes serves. It names no path, which may hold
// credentials.
func (e *Endpoint) WarnUnrouted(log *slog.Logger, edge netip.Addr, route string) (hasWarned bool) {
	if !e.unrouted.isDue(time.Now()) {
		return false
	}
	log.Warn("an edge asks about paths or hosts that no route of its has, so viewers are refused; "+
		"look at edge.viewer_path and hosts",
		slog.String("edge", edge.String()), slog.String("route", route))
	return true
}

// warning is when the operator was last warned of one thing, in Unix seconds.
type warning struct{ at atomic.Int64 }

// warnEvery spaces the warnings of one thing, so that an edge that is set up wrongly fills no log.
const warnEvery = time.Minute

// isDue reports whether no warning was written for warnEvery, and notes that one is written now.
func (w *warning) isDue(now time.Time) bool {
	last := w.at.Load()
	return now.Unix()-last >= int64(warnEvery/time.Second) && w.at.CompareAndSwap(last, now.Unix())
}
