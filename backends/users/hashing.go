package users

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"usher/backends"
)

// defaultPatience is how long a viewer waits for a slot and for his hash together. It is below the answer_deadline of
// backends that decide here (1 s), because what lasts that long looks like an outage, and fail-open would let him in.
const defaultPatience = 750 * time.Millisecond

// hashing compares passwords with bcrypt hashes, few at once, and remembers those that were right. Safe for concurrent
// use.
type hashing struct {
	name    string
	memory  *memory
	slots   chan struct{}
	waiting atomic.Int64
	most    int // may wait

	patience time.Duration
	compare  func(p password, text string) bool
}

func newHashing(name string, cfg Config, secret []byte) *hashing {
	slots := cfg.MaxConcurrentHashes
	if slots == 0 {
		slots = (runtime.GOMAXPROCS(0) + 1) / 2
	}
	return &hashing{
		name: name, memory: newMemory(secret, generation),
		slots: make(chan struct{}, slots), most: cfg.MaxWaiting,
		patience: defaultPatience, compare: password.equal,
	}
}

// matches reports whether the text is the login's password. The answer to a decoy is thrown away after it was computed.
// The error is an overload, or that of a viewer who left.
func (h *hashing) matches(ctx context.Context, login string, p password, decoy bool, text string) (bool, error) {
	if p.bcrypt == "" {
		return p.isSet() && h.compare(p, text) && !decoy, nil
	}
	key := h.memory.keyOf(login, p.bcrypt, text)
	if h.memory.holds(key) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.patience)
	defer cancel()
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	if h.memory.holds(key) { // another request of the same viewer was first
		<-h.slots
		return true, nil
	}
	// A hash cannot be stopped. If it takes too long, the viewer's next try finds it in the memory.
	result := make(chan bool, 1)
	go func() {
		defer func() { <-h.slots }()
		right := h.compare(p, text) && !decoy
		if right {
			h.memory.add(key)
		}
		result <- right
	}()
	select {
	case right := <-result:
		return right, nil
	case <-ctx.Done():
		return false, h.gaveUp(ctx)
	}
}

// enter takes a slot, first come, first served.
func (h *hashing) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return h.gaveUp(ctx)
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	if h.waiting.Add(1) > int64(h.most) {
		h.waiting.Add(-1)
		return backends.NewOverload("backends."+h.name+".max_waiting", h.most)
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return h.gaveUp(ctx)
	}
}

// gaveUp is the error of a wait that ended. Time that ran out is our own doing and never a failure, which could let
// the viewer in.
func (h *hashing) gaveUp(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("ask backend %q: %w", h.name, context.Canceled)
	}
	return backends.NewOverload("backends."+h.name+".max_concurrent_hashes", cap(h.slots))
}

// close waits for the hashes that are being computed.
func (h *hashing) close() {
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	for range cap(h.slots) {
		<-h.slots
	}
}
