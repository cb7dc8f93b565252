package rig

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"usher/backends/backendtest"
	"usher/bench/attack"
)

// Faults returns the forms of faults, for help and errors.
func Faults() []string {
	forms := []string{
		"middleware refuse", "middleware hang", "middleware reset", "middleware garbage", "middleware slow 500ms", "middleware flap 2s",
		"middleware status 503", "node kill 1", "node stop 1", "node restart 1", "node restart all", "redis freeze", "redis kill",
		"redis flush", "origin hang", "origin slow 500ms", "origin status 503",
		"collector refuse", "collector hang", "collector garbage", "collector slow 500ms",
	}
	for _, form := range attack.Kinds() {
		forms = append(forms, "attack "+form)
	}
	return forms
}

// ErrUnknownFault is wrapped by the error for a text that is no fault.
var ErrUnknownFault = errors.New("unknown fault")

// ErrNoServer is wrapped by the error for a fault of a server that the rig does not have.
var ErrNoServer = errors.New("the harness does not run that server")

// Fault is a fault that can begin.
type Fault struct {
	Name string
	// Begin breaks the server, and returns what mends it. Both are quick, except those of restarts.
	Begin func(ctx context.Context) (end func(ctx context.Context) error, err error)
}

// Fault returns the fault of that text, for which the servers are there.
func (g *Rig) Fault(text string) (Fault, error) {
	fields := strings.Fields(text)
	const least, most = 2, 3
	if len(fields) < least || len(fields) > most {
		return Fault{}, unknownFault(text)
	}
	argument := ""
	if len(fields) == most {
		argument = fields[2]
	}
	var begin func(context.Context) (func(context.Context) error, error)
	var err error
	switch fields[0] {
	case "middleware":
		begin, err = g.middlewareFault(fields[1], argument)
	case "node":
		begin, err = g.nodeFault(fields[1], argument)
	case "redis":
		begin, err = g.redisFault(fields[1])
	case "collector":
		begin, err = g.collectorFault(fields[1], argument)
	case "origin":
		begin, err = g.originFault(fields[1], argument)
	case "attack":
		begin, err = g.attackFault(fields[1], argument)
	default:
		err = ErrUnknownFault
	}
	if errors.Is(err, ErrUnknownFault) {
		return Fault{}, unknownFault(text)
	}
	if err != nil {
		return Fault{}, fmt.Errorf("fault %q: %w", text, err)
	}
	return Fault{Name: text, Begin: begin}, nil
}

func unknownFault(text string) error {
	return fmt.Errorf("fault %q: %w; want one such as %s", text, ErrUnknownFault, strings.Join(Faults(), ", "))
}

type begin = func(context.Context) (func(context.Context) error, error)

func (g *Rig) middlewareFault(kind, argument string) (begin, error) {
	if argument != "" {
		kind += ":" + argument
	}
	mode, err := backendtest.ParseMode(kind)
	if err != nil {
		return nil, err
	}
	if g.Middleware == nil {
		return nil, fmt.Errorf("%w: middleware (give --middleware ADDRESS, and have your servers ask it)", ErrNoServer)
	}
	return func(context.Context) (func(context.Context) error, error) {
		return func(context.Context) error { return g.Middleware.SetMode(g.healthy()) }, g.Middleware.SetMode(mode)
	}, nil
}

func (g *Rig) nodeFault(kind, which string) (begin, error) {
	if len(g.Nodes) == 0 {
		return nil, fmt.Errorf("%w: nodes of Usher", ErrNoServer)
	}
	if which == "all" && kind == "restart" {
		return restart(g.Nodes), nil
	}
	number, err := strconv.Atoi(which)
	if err != nil || number < 1 || number > len(g.Nodes) {
		return nil, fmt.Errorf("node %q: want a number from 1 to nodes (%d)", which, len(g.Nodes))
	}
	n := g.Nodes[number-1]
	switch kind {
	case "restart":
		return restart([]*Node{n}), nil
	case "kill":
		return func(context.Context) (func(context.Context) error, error) {
			n.Kill()
			return n.Start, nil
		}, nil
	case "stop":
		return func(context.Context) (func(context.Context) error, error) { return n.stop() }, nil
	}
	return nil, ErrUnknownFault
}

// restartTimeout bounds the restart of one node.
const restartTimeout = time.Minute

// restart restarts nodes one after the other, beside the run, until that ends. Its end waits for the last one.
func restart(nodes []*Node) begin {
	return func(ctx context.Context) (func(context.Context) error, error) {
		done := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < len(nodes) && err == nil && ctx.Err() == nil; i++ {
				// A node that was stopped is started, even if the run ends meanwhile.
				whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartTimeout)
				err = nodes[i].Restart(whole)
				cancel()
			}
			done <- err
		}()
		return func(context.Context) error { return <-done }, nil
	}
}

func (g *Rig) redisFault(kind string) (begin, error) {
	if g.redis == nil {
		return nil, fmt.Errorf("%w: redis-server (set redis: true)", ErrNoServer)
	}
	nothing := func(context.Context) error { return nil }
	r := g.redis
	switch kind {
	case "freeze":
		return func(context.Context) (func(context.Context) error, error) { return r.stop() }, nil
	case "kill":
		return func(context.Context) (func(context.Context) error, error) {
			p := r.end()
			err := p.Signal(syscall.SIGKILL)
			<-p.Ended()
			return r.start, err
		}, nil
	case "flush":
		return func(ctx context.Context) (func(context.Context) error, error) {
			return nothing, r.send(ctx, "FLUSHALL")
		}, nil
	}
	return nil, ErrUnknownFault
}

// attackFault attacks the first server of those that viewers use.
func (g *Rig) attackFault(kind, count string) (begin, error) {
	if len(g.Nodes) == 0 {
		return nil, fmt.Errorf("%w: nodes of Usher", ErrNoServer)
	}
	one, err := attack.Parse(kind, count)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (func(context.Context) error, error) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		one.Follow(g.attack.Swap(one))
		const path = "/play/a001/index.m3u8?token={token}"
		go func() {
			if len(g.options.Attacker) > 0 {
				done <- one.RunBy(ctx, g.options.Attacker, g.URLs()[0], path)
			} else {
				done <- one.Run(ctx, g.URLs()[0], path)
			}
		}()
		return func(context.Context) error {
			cancel()
			return <-done
		}, nil
	}, nil
}

// originFault is how the origin is broken: by a status, by a delay, or by none, which hangs.
type originFault struct {
	delay  time.Duration
	status int
	// over is closed when the fault ends. What hangs is served then.
	over chan struct{}
}

func (g *Rig) originFault(kind, argument string) (begin, error) {
	var f originFault
	var err error
	switch kind {
	case "hang":
		if argument != "" {
			err = ErrUnknownFault
		}
	case "slow":
		if f.delay, err = time.ParseDuration(argument); err == nil && f.delay <= 0 {
			err = fmt.Errorf("%s is not above 0", argument)
		}
	case "status":
		const lowest, highest = 400, 599
		if f.status, err = strconv.Atoi(argument); err == nil && (f.status < lowest || f.status > highest) {
			err = fmt.Errorf("%s is not from %d to %d", argument, lowest, highest)
		}
	default:
		err = ErrUnknownFault
	}
	if err != nil {
		return nil, err
	}
	if g.origin == nil {
		return nil, fmt.Errorf("%w: origin (give --origin ADDRESS, and have your servers fetch from it)", ErrNoServer)
	}
	return func(context.Context) (func(context.Context) error, error) {
		begun := f
		begun.over = make(chan struct{})
		g.fault.Store(&begun)
		return func(context.Context) error {
			g.fault.Store(nil)
			close(begun.over)
			return nil
		}, nil
	}, nil
}

// breakOrigin puts the fault in force before the origin.
func (g *Rig) breakOrigin(origin http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.fetches.Add(1)
		f := g.fault.Load()
		if f == nil {
			origin.ServeHTTP(w, r)
			return
		}
		if f.status != 0 {
			http.Error(w, "broken on purpose", f.status)
			return
		}
		var delayed <-chan time.Time
		if f.delay > 0 {
			delayed = time.After(f.delay)
		}
		select {
		case <-delayed:
		case <-f.over:
		case <-r.Context().Done():
			return
		}
		origin.ServeHTTP(w, r)
	})
}
