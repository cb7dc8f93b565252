package table

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"usher/bench/load"
	"usher/bench/peers"
)

// The connections of a closed loop, as wrk's.
const (
	fewConnections  = 64
	manyConnections = 256
)

// contest is a kind of work that servers do as fast as they can. It makes a line for each number of connections.
type contest struct {
	key, title, goal string
	// wanted is the least ratio to the yardstick that meets the goal.
	wanted float64
	peers  []string
}

// mostSlower is how much longer Usher's p99 may be than the yardstick's.
const mostSlower = 1.2

// run measures Usher, the yardstick and, with few connections, the row's other peers.
func (c contest) run(ctx context.Context, b *bed, w work) (lines []Line, err error) {
	all, stop, err := b.startAll(ctx, append(append([]string{peers.Yardstick}, c.peers...), usherName), setting{})
	if err != nil {
		return nil, err
	}
	defer stop()
	for _, connections := range []int{fewConnections, manyConnections} {
		what := fmt.Sprintf("%s, %d connections", c.key, connections)
		r, err := b.alternate(ctx, what, connections, all, w)
		if err != nil {
			return nil, err
		}
		b.noteGenerator(what, r)
		lines = append(lines, c.line(connections, r))
		all = slices.DeleteFunc(slices.Clone(all), func(t *target) bool { return t.name != peers.Yardstick && t.name != usherName })
	}
	return lines, nil
}

func (c contest) line(connections int, r *runs) Line {
	us, them := r.samples[usherName], r.samples[peers.Yardstick]
	return Line{
		Work: fmt.Sprintf("%s, %d connections", c.title, connections), Goal: fmt.Sprintf("%s; p99 ≤ × %.1f", c.goal, mostSlower),
		Peers: r.others(peers.Yardstick), Usher: r.describe(usherName), Ratio: r.ratios(peers.Yardstick),
		Met: compare(us, them, perSecond).median >= c.wanted && compare(us, them, p99).median <= mostSlower && failed(us)+failed(them) == 0,
	}
}

// noteGenerator says what the generator took beside the yardstick and Usher.
func (b *bed) noteGenerator(key string, r *runs) {
	b.note(fmt.Sprintf("%s: generator, origin and middleware took %.1f cores beside %s, %.1f beside Usher.", key,
		median(r.samples[peers.Yardstick], generatorCPU), peers.Yardstick, median(r.samples[usherName], generatorCPU)))
}

func playlists(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "playlists", title: "playlists by their original URL", goal: "≥ 1.3, wanted ≥ 1.5", wanted: 1.3,
		peers: []string{"nginx-static", "nginx-lua", "varnish", "haproxy", "caddy"},
	}.run(ctx, b, playlistWork)
}

// tickets has viewers reload a playlist below their ticket. Peers have none: there they show the token.
func tickets(ctx context.Context, b *bed) ([]Line, error) {
	return contest{key: "tickets", title: "playlists below a ticket", goal: "≥ 1.5", wanted: 1.5}.run(
		ctx, b, func(ctx context.Context, t *target) (func(int, int) load.Request, error) {
			requests, err := ticketRequests(ctx, t)
			return shuffled(requests), err
		})
}

func playlistWork(_ context.Context, t *target) (func(int, int) load.Request, error) {
	return shuffled(playlistRequests(t, tokens)), nil
}

func segments(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "segments", title: "1 MB segments, cached", goal: "≥ 1.2, wanted ≥ 1.3", wanted: 1.2,
		peers: []string{"varnish"},
	}.run(ctx, b, func(ctx context.Context, t *target) (func(int, int) load.Request, error) {
		requests, err := segmentRequests(ctx, t, knownViewer)
		return shuffled(requests), err
	})
}

func mixed(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "mixed", title: "playlists and 1 MB segments, 1:1", goal: "≥ 1.2, wanted ≥ 1.3", wanted: 1.2,
		peers: []string{"varnish"},
	}.run(ctx, b, func(ctx context.Context, t *target) (func(int, int) load.Request, error) {
		requests, err := segmentRequests(ctx, t, knownViewer)
		for range perViewer {
			requests = append(requests, playlistRequests(t, tokens)...)
		}
		return shuffled(requests), err
	})
}

func authQuestions(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "auth", title: "an edge's questions, known sessions", goal: "≥ 1.0, wanted ≥ 1.2", wanted: 1.0,
		peers: []string{"nginx-lua"},
	}.run(ctx, b, func(_ context.Context, t *target) (func(int, int) load.Request, error) {
		return shuffled(authRequests(t)), nil
	})
}

func newViewers(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "new-viewers", title: "every request a new viewer, one call of the middleware each",
		goal: "≥ 1.3, wanted ≥ 2.6", wanted: 1.3,
		peers: []string{"nginx-lua", "nginx-auth-each", "varnish"},
	}.run(ctx, b, func(_ context.Context, t *target) (func(int, int) load.Request, error) {
		return b.newViewerRequests(t, manyConnections), nil
	})
}

// expiring measures playlists while the middleware takes 20 ms and every answer is kept for a few seconds only.
func expiring(ctx context.Context, b *bed) ([]Line, error) {
	const latency = 20 * time.Millisecond
	all, stop, err := b.startAll(ctx, []string{peers.Yardstick, "nginx-lua", usherName}, setting{validity: b.shortValidity(), recheckRate: manyRechecks})
	if err != nil {
		return nil, err
	}
	defer stop()
	warm, err := b.alternate(ctx, "expiring, middleware at 0 ms", fewConnections, all, playlistWork)
	if err != nil {
		return nil, err
	}
	healthy, err := b.slow(latency)
	if err != nil {
		return nil, err
	}
	defer healthy()
	r, err := b.alternate(ctx, "expiring", fewConnections, all, playlistWork)
	if err != nil {
		return nil, err
	}
	return []Line{expiringLine(warm, r, b.shortValidity())}, nil
}

func expiringLine(warm, r *runs, validity time.Duration) Line {
	const mostP99 = 6 * time.Millisecond
	describe := func(name string) string {
		return fmt.Sprintf("%s p99 %s (%s at 0 ms)", name, milliseconds(median(r.samples[name], p99)),
			milliseconds(median(warm.samples[name], p99))) + failures(slices.Concat(warm.samples[name], r.samples[name]))
	}
	var others []string
	for _, name := range r.names {
		if name != usherName {
			others = append(others, describe(name))
		}
	}
	us := r.samples[usherName]
	return Line{
		Work:  fmt.Sprintf("p99 of playlists while decisions expire, middleware at 20 ms, decisions kept %s", validity),
		Goal:  "≤ 6 ms",
		Peers: strings.Join(others, "; "), Usher: describe(usherName),
		Ratio: fmt.Sprintf("p99 **%s**", compare(us, r.samples[peers.Yardstick], p99)),
		Met:   median(us, p99) <= mostP99.Seconds() && failed(us)+failed(warm.samples[usherName]) == 0,
	}
}
