package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"usher/backends"
)

// bus is what a node hears from all others and tells them: revocations, bans, questions, signs of life.
type bus struct {
	wire        *wire
	clock       *redisClock
	started     time.Time
	registry    *registry
	revocations *revocations
	bans        *banSync
	questions   *questions
	log         *slog.Logger
	// woken and over take what other scripts tell: that a session's answer is there, that a user exceeds his limit.
	woken func(backends.SessionID)
	over  func(userHash string)

	// soon asks for a pulse at once, and for a replay with it.
	soon chan struct{}
	// failing: the last pulse failed. Only the pulse's goroutine uses it.
	failing bool
}

// run works until ctx ends; then it takes the node off the list.
func (b *bus) run(ctx context.Context) {
	k := b.wire.keys
	self := k.node(b.registry.id)
	subscription := &link{
		client:   b.wire.client,
		channels: []string{k.revoked(), self, k.wake(), k.over()},
		linked:   b.hurry,
		receive:  func(channel, payload string) { b.receive(ctx, channel, payload) },
	}
	var working sync.WaitGroup
	working.Go(func() { subscription.run(ctx) })
	working.Go(func() { b.pulses(ctx, subscription) })
	working.Wait()
	b.questions.running.Wait()

	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), pulseDeadline)
	defer cancel()
	if err := b.registry.leave(ending); err != nil {
		b.log.Info("the node could not take itself off the list; it is forgotten in a while", slog.Any("error", err))
	}
}

func (b *bus) receive(ctx context.Context, channel, payload string) {
	k := b.wire.keys
	switch channel {
	case k.revoked():
		b.revocations.hear(payload)
	case k.wake():
		if id, err := backends.ParseSessionID(payload); err == nil {
			b.woken(id)
		}
	case k.over():
		b.over(payload)
	default:
		b.questions.hear(ctx, payload)
	}
}

// hurry asks for a pulse and a replay at once. It does not block.
func (b *bus) hurry() {
	select {
	case b.soon <- struct{}{}:
	default:
	}
}

// pulses beats until ctx ends.
func (b *bus) pulses(ctx context.Context, subscription *link) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		replay := false
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-b.soon:
			replay = true
		}
		pause := pulseEvery
		if err := b.beat(ctx, subscription, replay); err != nil {
			b.failing = true // what was missed is known when it works again
			pause = pulseAgain
		} else {
			b.failing = false
		}
		next.Reset(pause)
	}
}

// beat gives a sign of life and catches up with what it brings to light.
func (b *bus) beat(ctx context.Context, subscription *link, replay bool) error {
	p, err := b.registry.beat(ctx)
	if err != nil {
		return err
	}
	if b.failing || b.registry.deaf() { // the subscription's connection may be dead without knowing it
		b.registry.heard.Store(b.registry.beats.Load())
		subscription.renew()
		replay = true
	}
	if b.revocations.behind(p, b.started) || replay {
		if err := b.revocations.replay(ctx); err != nil {
			return err
		}
	}
	b.bans.bans.expire(time.Now())
	if b.bans.due(p) {
		if err := b.bans.run(ctx); err != nil {
			return err
		}
	}
	b.revocations.sendHeld(ctx)
	if !b.registry.knows(p.live) {
		_, _ = b.registry.ask(ctx, "") // only whom to name; the next pulse tries again
	}
	return nil
}
