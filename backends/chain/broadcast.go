package chain

import (
	"slices"
	"sync"
	"sync/atomic"
)

// broadcaster signals a change to its subscribers, and never waits for one. The zero value has none.
type broadcaster struct {
	mu          sync.Mutex // held to change the list, never to read it
	subscribers atomic.Pointer[[]chan struct{}]
}

// subscribe returns a channel that signals each change. It holds one signal from the start, so that the subscriber reads
// the present state first; signals that are not received yet are merged into one. Call cancel when done.
func (b *broadcaster) subscribe() (changes <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	b.edit(func(list []chan struct{}) []chan struct{} { return append(slices.Clone(list), ch) })
	return ch, func() {
		b.edit(func(list []chan struct{}) []chan struct{} {
			return slices.DeleteFunc(slices.Clone(list), func(c chan struct{}) bool { return c == ch })
		})
	}
}

func (b *broadcaster) edit(change func([]chan struct{}) []chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []chan struct{}
	if old := b.subscribers.Load(); old != nil {
		list = *old
	}
	list = change(list)
	b.subscribers.Store(&list)
}

// notify signals a change to every subscriber.
func (b *broadcaster) notify() {
	list := b.subscribers.Load()
	if list == nil {
		return
	}
	for _, ch := range *list {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
