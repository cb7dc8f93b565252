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

// defaultVerifyTimeout bounds the wait for a slot and for the computation together. It is below the answer_deadline of
// local backends (1 s), which no composite that calls one undercuts, because a longer wait would count as an outage, and
// fail-open would allow the viewer.
const defaultVerifyTimeout = 750 * time.Millisecond

// passwordVerifier verifies passwords against bcrypt hashes, with bounded concurrency, and caches correct ones. Safe for
// concurrent use.
type passwordVerifier struct {
	name       string
	cache      *passwordCache
	slots      chan struct{} // one element per running computation
	waiting    atomic.Int64  // viewers that wait for a slot
	maxWaiting int

	timeout time.Duration
	compare func(p password, text string) bool
}

func newPasswordVerifier(name string, cfg Config, secret []byte) *passwordVerifier {
	slots := cfg.MaxConcurrentHashes
	if slots == 0 {
		slots = (runtime.GOMAXPROCS(0) + 1) / 2
	}
	return &passwordVerifier{
		name: name, cache: newPasswordCache(secret, generationSize),
		slots: make(chan struct{}, slots), maxWaiting: cfg.MaxWaiting,
		timeout: defaultVerifyTimeout, compare: password.equal,
	}
}

// setting returns the path of a key of the backend.
func (v *passwordVerifier) setting(key string) string { return "backends." + v.name + "." + key }

// verify reports whether the text is the login's password. It compares with a decoy too, but always returns false then.
// The error is an overload or a cancellation.
func (v *passwordVerifier) verify(ctx context.Context, login string, p password, isDecoy bool, text string) (bool, error) {
	if p.bcrypt == "" {
		return p.isSet() && v.compare(p, text) && !isDecoy, nil
	}
	key := v.cache.keyOf(login, p.bcrypt, text)
	if v.cache.contains(key) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	if err := v.acquireSlot(ctx); err != nil {
		return false, err
	}
	if v.cache.contains(key) { // another request with the same password was first
		<-v.slots
		return true, nil
	}
	// A computation cannot be canceled. If it takes too long, the viewer's next attempt finds the result in the cache.
	result := make(chan bool, 1)
	go func() {
		defer func() { <-v.slots }()
		isCorrect := v.compare(p, text) && !isDecoy
		if isCorrect {
			v.cache.add(key)
		}
		result <- isCorrect
	}()
	select {
	case isCorrect := <-result:
		return isCorrect, nil
	case <-ctx.Done():
		return false, v.waitError(ctx)
	}
}

// acquireSlot waits for a slot, first come, first served.
func (v *passwordVerifier) acquireSlot(ctx context.Context) error {
	if ctx.Err() != nil {
		return v.waitError(ctx)
	}
	select {
	case v.slots <- struct{}{}:
		return nil
	default:
	}
	if v.waiting.Add(1) > int64(v.maxWaiting) {
		v.waiting.Add(-1)
		return backends.NewOverload(v.setting("max_waiting"), v.maxWaiting)
	}
	defer v.waiting.Add(-1)
	select {
	case v.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return v.waitError(ctx)
	}
}

// waitError returns the error of a wait that ended. A timeout is our own overload and never a failure, which could allow
// the viewer.
func (v *passwordVerifier) waitError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("check backend %q: %w", v.name, context.Canceled)
	}
	return backends.NewOverload(v.setting("max_concurrent_hashes"), cap(v.slots))
}

// close waits for running computations.
func (v *passwordVerifier) close() {
	for range cap(v.slots) {
		v.slots <- struct{}{}
	}
	for range cap(v.slots) {
		<-v.slots
	}
}
