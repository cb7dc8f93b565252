package table

import (
	"context"
	"fmt"
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

// contest is a row in which servers do the same work as fast as they can.
type contest struct {
	key, title, goal string
	// wanted is the least ratio to the yardstick that meets the goal.
	wanted      float64
	peers       []string
	connections int
	setting     setting
}

// run measures Usher, the yardstick and the row's other peers.
func (c contest) run(ctx context.Context, b *bed, w work) ([]Line, error) {
	all, stop, err := b.startAll(ctx, append(append([]string{peers.Yardstick}, c.peers...), usherName), c.setting)
	if err != nil {
		return nil, err
	}
	defer stop()
	r, err := b.alternate(ctx, c.key, c.connections, all, w)
	if err != nil {
		return nil, err
	}
	b.noteGenerator(c.key, r)
	return []Line{{
		Work: fmt.Sprintf("%s, %d connections", c.title, c.connections), Goal: c.goal,
		Peers: r.others(peers.Yardstick), Usher: r.describe(usherName), Ratio: r.ratios(peers.Yardstick),
		Met: compare(r.samples[usherName], r.samples[peers.Yardstick], perSecond).median >= c.wanted,
	}}, nil
}

// noteGenerator says what the generator took beside the yardstick and Usher.
func (b *bed) noteGenerator(key string, r *runs) {
	b.note(fmt.Sprintf("%s: generator, origin and middleware took %.1f cores beside %s, %.1f beside Usher.", key,
		median(r.samples[peers.Yardstick], generatorCPU), peers.Yardstick, median(r.samples[usherName], generatorCPU)))
}

func playlists(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "playlists", title: "playlists, keep-alive", goal: "≥ 1.5", wanted: 1.5, connections: fewConnections,
		peers: []string{"nginx-static", "nginx-lua", "varnish", "haproxy", "caddy"},
	}.run(ctx, b, playlistWork)
}

func playlists256(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "playlists-256", title: "playlists, keep-alive", goal: "≥ 1.5", wanted: 1.5, connections: manyConnections,
		peers: []string{"nginx-lua"},
	}.run(ctx, b, playlistWork)
}

func playlistWork(_ context.Context, t *target) (func(int, int) load.Request, error) {
	return shuffled(playlistRequests(t, tokens)), nil
}

func segments(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "segments", title: "1 MB segments, cached", goal: "≥ 1.3", wanted: 1.3, connections: fewConnections,
		peers: []string{"varnish"},
	}.run(ctx, b, func(ctx context.Context, t *target) (func(int, int) load.Request, error) {
		requests, err := segmentRequests(ctx, t)
		return shuffled(requests), err
	})
}

func mixed(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "mixed", title: "playlists and 1 MB segments, 1:1", goal: "≥ 1.3", wanted: 1.3, connections: fewConnections,
		peers: []string{"varnish"},
	}.run(ctx, b, func(ctx context.Context, t *target) (func(int, int) load.Request, error) {
		requests, err := segmentRequests(ctx, t)
		for range perViewer {
			requests = append(requests, playlistRequests(t, tokens)...)
		}
		return shuffled(requests), err
	})
}

func authQuestions(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "auth", title: "an edge's questions, known sessions", goal: "≥ 1.2", wanted: 1.2, connections: fewConnections,
		peers: []string{"nginx-lua"},
	}.run(ctx, b, func(_ context.Context, t *target) (func(int, int) load.Request, error) {
		return shuffled(authRequests(t)), nil
	})
}

func newViewers(ctx context.Context, b *bed) ([]Line, error) {
	return contest{
		key: "new-viewers", title: "every request a new viewer, one call of the middleware each",
		goal: "≥ 1.3, wanted ≥ 2.6", wanted: 1.3, connections: fewConnections,
		peers: []string{"nginx-lua", "nginx-auth-each", "varnish"},
	}.run(ctx, b, func(_ context.Context, t *target) (func(int, int) load.Request, error) {
		return b.newViewerRequests(t, fewConnections), nil
	})
}

// expiring measures playlists while the middleware takes 20 ms and every answer is kept for a few seconds only.
func expiring(ctx context.Context, b *bed) ([]Line, error) {
	const latency, mostP99 = 20 * time.Millisecond, 6 * time.Millisecond
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
	describe := func(name string) string {
		return fmt.Sprintf("%s p99 %s (%s at 0 ms)", name, milliseconds(median(r.samples[name], p99)),
			milliseconds(median(warm.samples[name], p99)))
	}
	var others []string
	for _, t := range all {
		if t.name != usherName {
			others = append(others, describe(t.name))
		}
	}
	return []Line{{
		Work:  fmt.Sprintf("p99 of playlists while decisions expire, middleware at 20 ms, decisions kept %s", b.shortValidity()),
		Goal:  "as warm, ≤ 6 ms",
		Peers: strings.Join(others, "; "), Usher: describe(usherName),
		Ratio: fmt.Sprintf("p99 **%s**", compare(r.samples[usherName], r.samples[peers.Yardstick], p99)),
		Met:   median(r.samples[usherName], p99) <= mostP99.Seconds(),
	}}, nil
}
