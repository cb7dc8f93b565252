package chain

import (
	"slices"
	"sync"
	"sync/atomic"
)

// wakers wakes whoever asked for it, without ever waiting for him. The zero value has nobody to wake.
type wakers struct {
	mu   sync.Mutex // held to change the list, never to read it
	list atomic.Pointer[[]chan struct{}]
}

// add returns a channel that holds a wake from the start, and the way out.
func (w *wakers) add() (wake <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	w.change(func(list []chan struct{}) []chan struct{} { return append(slices.Clone(list), ch) })
	return ch, func() {
		w.change(func(list []chan struct{}) []chan struct{} {
			return slices.DeleteFunc(slices.Clone(list), func(c chan struct{}) bool { return c == ch })
		})
	}
}

func (w *wakers) change(edit func([]chan struct{}) []chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []chan struct{}
	if old := w.list.Load(); old != nil {
		list = *old
	}
	list = edit(list)
	w.list.Store(&list)
}

// wake leaves a wake for everybody. One who has not fetched his last has it still.
func (w *wakers) wake() {
	list := w.list.Load()
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
