package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// relink is the pause before a broken subscription is tried again: long enough for a Redis that is away, and short enough
// that what was missed is known well within a second of its return.
const relink = 100 * time.Millisecond

// link is a subscription that is made again whenever it breaks. The client would do that by itself, but silently: then
// nobody would know that messages were lost.
type link struct {
	client   redis.UniversalClient
	channels []string
	// receive is called for each message, one after another. It must not block.
	receive func(channel, payload string)
	// linked is called when all channels are subscribed, each time.
	linked func()

	mu      sync.Mutex
	current *redis.PubSub
}

// run keeps the subscription until ctx ends.
func (l *link) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		l.live(ctx)
		pause.Reset(relink)
	}
}

// live is one subscription from its beginning until it breaks.
func (l *link) live(ctx context.Context) {
	subscription := l.client.Subscribe(ctx, l.channels...)
	l.set(subscription)
	stop := context.AfterFunc(ctx, func() { _ = subscription.Close() }) // a read does not end with its context
	defer func() {
		stop()
		l.set(nil)
		_ = subscription.Close()
	}()
	for {
		message, err := subscription.Receive(ctx)
		if err != nil {
			return // the client may have a new connection by now: what was missed meanwhile would not be noticed
		}
		switch m := message.(type) {
		case *redis.Subscription:
			if m.Count == len(l.channels) {
				l.linked()
			}
		case *redis.Message:
			l.receive(m.Channel, m.Payload)
		}
	}
}

func (l *link) set(subscription *redis.PubSub) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = subscription
}

// renew gives the connection up, because nothing seems to come over it, and makes a new one.
func (l *link) renew() {
	l.mu.Lock()
	current := l.current
	l.mu.Unlock()
	if current != nil {
		_ = current.Close()
	}
}
