package chain

import (
	"slices"
	"sync"
	"sync/atomic"
)

// broadcaster wakes whoever asked for it, without ever waiting for him. The zero value has nobody to wake.
type broadcaster struct {
	mu   sync.Mutex // held to change the list, never to read it
	subscribers atomic.Pointer[[]chan struct{}]
}

// subscribe returns a channel that holds a wake from the start, and the way out.
func (w *broadcaster) subscribe() (wake <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	w.edit(func(list []chan struct{}) []chan struct{} { return append(slices.Clone(list), ch) })
	return ch, func() {
		w.edit(func(list []chan struct{}) []chan struct{} {
			return slices.DeleteFunc(slices.Clone(list), func(c chan struct{}) bool { return c == ch })
		})
	}
}

func (w *broadcaster) edit(edit func([]chan struct{}) []chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []chan struct{}
	if old := w.subscribers.Load(); old != nil {
		list = *old
	}
	list = edit(list)
	w.subscribers.Store(&list)
}

// notify leaves a wake for everybody. One who has not fetched his last has it still.
func (w *broadcaster) notify() {
	list := w.subscribers.Load()
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
