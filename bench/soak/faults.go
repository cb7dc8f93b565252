package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"usher/backends/backendtest"
	"usher/bench/soak/netns"
)

// breakThings begins and ends the faults at their times. All have ended when it returns, also if ctx ended.
func (w *world) breakThings(ctx context.Context, faults []fault) error {
	var mu sync.Mutex
	var errs []error
	var running sync.WaitGroup
	targets := map[string]*sync.Mutex{} // a node that starts slowly is not killed again before it runs
	for i := range faults {
		f := &faults[i]
		target := targets[f.target()]
		if target == nil {
			target = new(sync.Mutex)
			targets[f.target()] = target
		}
		if !pause(ctx, time.Until(w.ledger.started.Add(f.at))) {
			break
		}
		running.Go(func() {
			target.Lock()
			defer target.Unlock()
			if ctx.Err() != nil {
				return // it waited for another fault of the target until the run was over
			}
			if err := w.inject(ctx, f); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("fault %q: %w", f, err))
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// inject keeps a fault in force for its time.
func (w *world) inject(ctx context.Context, f *fault) error {
	w.note(f, true)
	end := w.ledger.recorder.Fault(f.String(), time.Now())
	mend, err := w.begin(f)
	if err == nil {
		pause(ctx, f.length)
		err = mend(ctx)
	}
	end(time.Now())
	w.note(f, false)
	return err
}

// note notes for each node whether the fault breaks its way to Redis, and spoils what its disk says, or does no more.
func (w *world) note(f *fault, isBroken bool) {
	for i, n := range w.nodes {
		if f.breaksRedis(n.host.Name) {
			w.watched[i].breakRedis(isBroken)
		}
		if f.a == n.host.Name && slices.Contains([]kind{fullDisk, clockForward, clockBack}, f.kind) {
			w.watched[i].distrust(isBroken)
		}
	}
}

// breaksRedis reports whether a node may not reach Redis during the fault.
func (f *fault) breaksRedis(node string) bool {
	if f.b != "" {
		return f.a == node && f.b == "redis"
	}
	return (f.a == node || f.a == "redis") && slices.Contains([]kind{killed, stopped, gone}, f.kind)
}

// begin breaks what the fault breaks, and returns what mends it.
func (w *world) begin(f *fault) (mend func(context.Context) error, err error) {
	switch f.kind {
	case slowLink:
		const jitter = 3
		return w.link(f, netns.Link{Delay: f.delay, Jitter: f.delay / jitter}), nil
	case lossyLink:
		return w.link(f, netns.Link{Loss: f.loss}), nil
	case cutLink:
		return w.link(f, netns.Link{IsCut: true}), nil
	case gone:
		return w.isolate(f.a), nil
	case killed:
		s := w.server(f.a)
		return s.start, s.kill()
	case stopped:
		s := w.server(f.a)
		return func(context.Context) error { return s.signal(syscall.SIGCONT) }, s.signal(syscall.SIGSTOP)
	case middleware:
		return w.misbehave(f)
	case fullDisk:
		n, cut := w.node(f.a), fault{kind: fullDisk, a: f.a, b: "collector"} // else no record waits on the disk
		join := w.link(&cut, netns.Link{IsCut: true})
		return func(ctx context.Context) error { return errors.Join(n.empty(), join(ctx)) }, n.fill()
	}
	n, step := w.node(f.a), time.Hour
	if f.kind == clockBack {
		step = -step
	}
	return func(context.Context) error { return n.clock.Set(0) }, n.clock.Set(step)
}

// link changes a link until mend is called.
func (w *world) link(f *fault, l netns.Link) (mend func(context.Context) error) {
	a, b := w.hosts[f.a], w.hosts[f.b]
	w.setLink(a, b, f.String(), l)
	return func(context.Context) error {
		w.setLink(a, b, f.String(), netns.Link{})
		return nil
	}
}

// isolate cuts a host off from all others.
func (w *world) isolate(name string) (mend func(context.Context) error) {
	set := func(l netns.Link) {
		for other, h := range w.hosts {
			if other != name {
				w.setLink(w.hosts[name], h, name+" gone", l)
			}
		}
	}
	set(netns.Link{IsCut: true})
	return func(context.Context) error {
		set(netns.Link{})
		return nil
	}
}

// setLink says what one fault does to a link, of which several may be in force: the worst of each counts.
func (w *world) setLink(a, b *netns.Host, cause string, l netns.Link) {
	w.linksMu.Lock()
	defer w.linksMu.Unlock()
	pair := [2]string{min(a.Name, b.Name), max(a.Name, b.Name)}
	if w.links[pair] == nil {
		w.links[pair] = map[string]netns.Link{}
	}
	if w.links[pair][cause] = l; l == (netns.Link{}) {
		delete(w.links[pair], cause)
	}
	var worst netns.Link
	for _, one := range w.links[pair] {
		worst.Delay, worst.Jitter = max(worst.Delay, one.Delay), max(worst.Jitter, one.Jitter)
		worst.Loss, worst.IsCut = max(worst.Loss, one.Loss), worst.IsCut || one.IsCut
	}
	w.network.Set(a, b, worst)
}

func (w *world) misbehave(f *fault) (mend func(context.Context) error, err error) {
	mode, err := backendtest.ParseMode(f.mode)
	if err != nil {
		return nil, err
	}
	set := func(m backendtest.Mode) error {
		return w.hosts[f.a].Do(func() error { return w.portals[f.a].SetMode(m) }) // it may listen anew
	}
	return func(context.Context) error { return set(backendtest.Healthy()) }, set(mode)
}

// pause waits, and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
