package redisclient

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// resubscribeDelay is the pause before a broken subscription is made again: long enough for a Redis that is down, and
// short enough that missed messages are known well within a second of its recovery.
const resubscribeDelay = 100 * time.Millisecond

// Subscription is a subscription that is made again whenever it breaks. The library would do that by itself, but
// silently, and lost messages would go unnoticed.
type Subscription struct {
	redis        redis.UniversalClient
	channels     []string
	onMessage    func(channel, payload string)
	onSubscribed func()

	mu      sync.Mutex
	current *redis.PubSub
}

// NewSubscription makes a subscription to channels; [Subscription.Run] subscribes. onMessage is called for one message
// after another and must not block. onSubscribed is called each time that all channels are subscribed.
func (c *Client) NewSubscription(
	channels []string, onMessage func(channel, payload string), onSubscribed func(),
) *Subscription {
	return &Subscription{redis: c.redis, channels: channels, onMessage: onMessage, onSubscribed: onSubscribed}
}

// Run keeps the subscription until ctx ends.
func (s *Subscription) Run(ctx context.Context) {
	delay := time.NewTimer(0)
	defer delay.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-delay.C:
		}
		s.receive(ctx)
		delay.Reset(resubscribeDelay)
	}
}

// receive subscribes once, and returns when the subscription breaks.
func (s *Subscription) receive(ctx context.Context) {
	pubsub := s.redis.Subscribe(ctx, s.channels...)
	s.setCurrent(pubsub)
	stop := context.AfterFunc(ctx, func() { _ = pubsub.Close() }) // a read does not end with its context
	defer func() {
		stop()
		s.setCurrent(nil)
		_ = pubsub.Close()
	}()
	for {
		message, err := pubsub.Receive(ctx)
		if err != nil {
			return // the library may reconnect by itself, and messages lost meanwhile would go unnoticed
		}
		switch m := message.(type) {
		case *redis.Subscription:
			if m.Count == len(s.channels) {
				s.onSubscribed()
			}
		case *redis.Message:
			s.onMessage(m.Channel, m.Payload)
		}
	}
}

func (s *Subscription) setCurrent(pubsub *redis.PubSub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = pubsub
}

// Reconnect drops a connection that seems to receive nothing, so that Run makes a new one.
func (s *Subscription) Reconnect() {
	s.mu.Lock()
	current := s.current
	s.mu.Unlock()
	if current != nil {
		_ = current.Close()
	}
}
