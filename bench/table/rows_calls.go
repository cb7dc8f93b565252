package table

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"usher/bench/load"
	"usher/bench/peers"
	"usher/bench/process"
)

// calls counts the middleware's calls for viewers who stay and whose requests reach two nodes in turn, and how they spread.
func calls(ctx context.Context, b *bed) ([]Line, error) {
	const viewers, periods = 100, 6
	validity := b.shortValidity()
	length := periods * validity
	shared, stop, err := b.startRedis(ctx, "calls")
	if err != nil {
		return nil, err
	}
	defer stop()
	found := make(map[string]string)
	var perSession float64
	for _, name := range []string{peers.Yardstick, usherName} {
		if perSession, found[name], err = b.callsOf(ctx, name, setting{validity: validity, recheckRate: manyRechecks, yaml: shared}, viewers, length); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b.say("calls: %s %s", name, found[name])
	}
	expected := 1 + float64(length)/float64(validity)
	return []Line{{
		Work: fmt.Sprintf("middleware calls of a session of %s, decisions kept %s, %d viewers, two nodes", length, validity, viewers),
		Goal: fmt.Sprintf("1 + duration ÷ validity = %.0f, cluster-wide, spread", expected), Peers: peers.Yardstick + " " + found[peers.Yardstick],
		Usher: found[usherName], Ratio: "–", Met: isInTime(perSession-1, expected-1),
	}}, ctx.Err()
}

// callsOf returns the calls for each viewer of two nodes of a server.
func (b *bed) callsOf(ctx context.Context, name string, s setting, viewers int, length time.Duration) (perSession float64, text string, err error) {
	var nodes []*target
	for range 2 {
		t, err := b.start(ctx, name, s)
		if err != nil {
			return 0, "", err
		}
		defer t.close()
		nodes = append(nodes, t)
	}
	before := b.middleware.Calls()
	watching, done := context.WithCancel(ctx)
	most := make(chan uint64)
	go func() { most <- b.busiest(watching) }()
	var running sync.WaitGroup
	failed := make([]error, len(nodes))
	for i, t := range nodes {
		requests := playlistRequests(t, viewers)
		running.Go(func() {
			r := load.Run(ctx, load.Options{ // each viewer requests the playlist once a second from each node
				Address: t.address, Connections: viewers, Rate: float64(viewers), For: length,
				Next: func(connection, _ int) load.Request { return requests[connection] },
			}, nil)
			if r.Failed() > 0 {
				failed[i] = fmt.Errorf("%d requests failed: %v", r.Failed(), r.Failures)
			}
		})
	}
	running.Wait()
	done()
	busiest := <-most
	perSession = float64(b.middleware.Calls()-before) / float64(viewers)
	return perSession, fmt.Sprintf("%.1f a session, at most %d in 100 ms", perSession, busiest), errors.Join(failed...)
}

// busiest returns the most calls of the middleware in 100 ms until ctx ends, once all viewers have begun.
func (b *bed) busiest(ctx context.Context) (most uint64) {
	const tick, beginning = 100 * time.Millisecond, 3 * time.Second
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last := b.middleware.Calls()
	for start := time.Now(); ; {
		select {
		case <-ticker.C:
			all := b.middleware.Calls()
			if time.Since(start) > beginning {
				most = max(most, all-last)
			}
			last = all
		case <-ctx.Done():
			return most
		}
	}
}

// startRedis starts a Redis for a row, and returns the settings of nodes that share it; empty, with a note: it is not installed.
func (b *bed) startRedis(ctx context.Context, key string) (yaml string, stop func(), err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		b.note(key + ": redis-server is not installed, so Usher's nodes share nothing (apt-get install -y redis-server).")
		return "", func() {}, nil
	}
	folder, err := os.MkdirTemp("", "usher-table-")
	if err != nil {
		return "", nil, err
	}
	socket := filepath.Join(folder, "redis.sock")
	p, err := process.Start(exec.CommandContext(context.WithoutCancel(ctx), program,
		"--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", folder))
	stop = func() {
		if p != nil {
			p.Stop()
		}
		_ = os.RemoveAll(folder)
	}
	if err == nil {
		err = awaitSocket(ctx, p, socket)
	}
	if err != nil {
		stop()
		return "", nil, err
	}
	return fmt.Sprintf("cluster: { redis: { addresses: [ %q ] }, encryption_keys: [ { id: a, secret: \"a secret of the table\" } ], session_ttl: 3h }", socket), stop, nil
}

func awaitSocket(ctx context.Context, p *process.Process, socket string) error {
	const pause, timeout = 20 * time.Millisecond, 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("redis-server ended: %s", p.Output())
		case <-ctx.Done():
			return fmt.Errorf("redis-server: %w", err)
		case <-time.After(pause):
		}
	}
}
