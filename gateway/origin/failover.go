package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// address is one address of an origin.
type address struct {
	url *url.URL
	// sendsHeaders reports that requests have the origin's header fields.
	sendsHeaders bool
	connSlots    [fetchClassCount]chan struct{}
	// unmoved are the slots of media that turned out to be large without room among classLarge: half of classMedia at most.
	unmoved chan struct{}
	// ejectedUntil is until when the address is ejected, in the cache's time; 0 means that it is not.
	ejectedUntil atomic.Int64
	// lastResponse is when the address last responded to any fetch, in the cache's time.
	lastResponse atomic.Int64

	mu sync.Mutex
	// failing are the channels that the address failed, although it accepts connections.
	failing map[string]channelFailure
}

// channelFailure is the last failure of a channel. Times are the cache's.
type channelFailure struct {
	// started is when the failed request began.
	started int64
	// until is until when the channel is fetched from other addresses.
	until int64
}

func newAddress(u *url.URL, maxConns int, sendsHeaders bool) *address {
	addr := &address{url: u, sendsHeaders: sendsHeaders, failing: make(map[string]channelFailure), unmoved: make(chan struct{}, maxConns/2)}
	for c := range addr.connSlots {
		addr.connSlots[c] = make(chan struct{}, maxConns)
	}
	return addr
}

// prefix is the path of the address, before every path on it.
func (addr *address) prefix() string { return prefixOf(addr.url) }

func prefixOf(u *url.URL) string { return strings.TrimSuffix(u.EscapedPath(), "/") }

func (addr *address) isEjected(now int64) bool { return now < addr.ejectedUntil.Load() }

// connSlot is one of the requests that an address receives at once. The goroutine of its fetch alone uses it.
type connSlot struct {
	addr  *address
	class fetchClass
	// isUnmoved reports that it is one of the address's unmoved.
	isUnmoved bool
}

func (s *connSlot) release() {
	<-s.addr.connSlots[s.class]
	if s.isUnmoved {
		<-s.addr.unmoved
	}
}

// moveTo makes it one of another class, and reports whether there was room.
func (s *connSlot) moveTo(c fetchClass) bool {
	select {
	case s.addr.connSlots[c] <- struct{}{}:
		s.release()
		s.class = c
		return true
	default:
		return false
	}
}

// becomeLarge makes it one of large media, of its own class if need be, and reports whether there was room.
func (s *connSlot) becomeLarge() bool {
	if s.class == classLarge || s.isUnmoved || s.moveTo(classLarge) {
		return true
	}
	select {
	case s.addr.unmoved <- struct{}{}:
		s.isUnmoved = true
		return true
	default:
		return false
	}
}

// acquireConn waits for a free connection slot, which the caller releases. It returns a *backends.Overload if too many fetches
// wait or the wait takes too long.
func (o *Origin) acquireConn(ctx context.Context, addr *address, c fetchClass) (*connSlot, error) {
	slots, slot := addr.connSlots[c], &connSlot{addr: addr, class: c}
	select {
	case slots <- struct{}{}:
		return slot, nil
	default:
	}
	defer o.waitingForConn.Add(-1)
	if o.waitingForConn.Add(1) > int64(o.config.Fetch.MaxWaiting) {
		return nil, o.overload("fetch.max_waiting", o.config.Fetch.MaxWaiting)
	}
	select {
	case slots <- struct{}{}:
		return slot, nil
	case <-ctx.Done():
		if _, ok := errors.AsType[*timeoutError](context.Cause(ctx)); ok {
			return nil, o.overload("fetch.max_conns", o.config.Fetch.MaxConns)
		}
		return nil, context.Cause(ctx)
	}
}

// overload returns the error for a reached bound of the gateway, which is not a failure of the origin.
func (o *Origin) overload(setting string, value int) error {
	return fmt.Errorf("fetch from origin %q: %w", o.name, backends.NewOverload(setting, value))
}

// addressesOf returns the addresses to try for a key, best first.
func (o *Origin) addressesOf(k cacheKey, channel string) []*address {
	if k.base != "" {
		return []*address{o.redirectAddress(k.base)}
	}
	return o.candidates(channel)
}

// candidates returns the origin's own addresses to try for a channel, best first: those that failed the channel come last.
// Ejected addresses are tried only if all are ejected, and then the one whose ejection ends first comes first.
func (o *Origin) candidates(channel string) []*address {
	if len(o.addresses) == 1 {
		return o.addresses
	}
	now := o.cache.now()
	var up, failing []*address
	for _, addr := range o.addresses {
		switch {
		case addr.isEjected(now):
		case addr.isFailing(channel, now):
			failing = append(failing, addr)
		default:
			up = append(up, addr)
		}
	}
	if up = append(up, failing...); len(up) > 0 {
		return up
	}
	return slices.SortedStableFunc(slices.Values(o.addresses), func(a, b *address) int {
		return cmp.Compare(a.ejectedUntil.Load(), b.ejectedUntil.Load())
	})
}

// isUnavailable reports whether every address of a fetch is ejected or failed its channel.
func (o *Origin) isUnavailable(f *fetch, now int64) bool {
	for _, addr := range o.addressesOf(f.key, f.channel) {
		if !addr.isEjected(now) && !addr.isFailing(f.channel, now) {
			return false
		}
	}
	return true
}

// recordResponse records that an address responded and ends its ejection.
func (o *Origin) recordResponse(addr *address, now int64) {
	addr.lastResponse.Store(now)
	if addr.ejectedUntil.Swap(0) != 0 {
		o.log.Info("origin address recovered", slog.String("address", addr.url.Host))
	}
}

// eject avoids an address for a while, unless it has responded to another fetch since the failed request began: then the
// address is not the cause.
func (o *Origin) eject(addr *address, started, now int64, err error) {
	if addr.lastResponse.Load() > started {
		return
	}
	if addr.ejectedUntil.Swap(now+int64(o.config.Fetch.EjectFor)) == 0 {
		o.log.Warn("origin address unavailable, ejected", slog.String("address", addr.url.Host),
			slog.Duration("ejected_for", o.config.Fetch.EjectFor), slog.Any("error", err))
	}
}

const (
	// ejectingChannels is how many channels must fail at an address, without a response in between, to eject it. One broken
	// channel does not move the others.
	ejectingChannels = 3
	// maxFailingChannels bounds the channels of which an address keeps a failure.
	maxFailingChannels = 1000
)

// failChannel avoids an address for a channel. It ejects the address if several channels failed.
func (o *Origin) failChannel(addr *address, channel string, started, now int64, err error) {
	if addr.setFailing(channel, channelFailure{started: started, until: now + int64(o.config.Fetch.EjectFor)}, now) >= ejectingChannels {
		o.eject(addr, started, now, err)
	}
}

// setFailing keeps a channel's failure, and returns how many channels failed since the address last responded.
func (addr *address) setFailing(channel string, failure channelFailure, now int64) int {
	addr.mu.Lock()
	defer addr.mu.Unlock()
	addr.failing[strings.Clone(channel)] = failure
	responded, unanswered := addr.lastResponse.Load(), 0
	for name, f := range addr.failing {
		switch {
		case f.started >= responded:
			unanswered++
		case f.until <= now:
			delete(addr.failing, name)
		}
	}
	if len(addr.failing) > maxFailingChannels {
		clear(addr.failing)
	}
	return unanswered
}

// setServing ends the failure of a channel.
func (addr *address) setServing(channel string) {
	addr.mu.Lock()
	defer addr.mu.Unlock()
	delete(addr.failing, channel)
}

func (addr *address) isFailing(channel string, now int64) bool {
	addr.mu.Lock()
	defer addr.mu.Unlock()
	return now < addr.failing[channel].until
}

// requestError returns the error of a request without a response, and ejects the address if it is the cause.
func (o *Origin) requestError(ctx context.Context, f *fetch, addr *address, at *hop, started int64, err error) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx) //nolint:contextcheck // the fetch's own context: it was cancelled here, not by the origin
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	err = bareError(err)
	timeout, late := errors.AsType[*timeoutError](err)
	isHeld := late && timeout.setting == "fetch.blocking_timeout" // the origin held the reload on purpose
	switch {
	case at.isRedirected, errors.Is(err, errRedirect):
		o.recordResponse(addr, o.cache.now())
	case isHeld:
	case !at.isConnected:
		o.eject(addr, started, o.cache.now(), err)
	default:
		o.failChannel(addr, f.channel, started, o.cache.now(), err)
	}
	return &UnreachableError{Origin: o.name, Err: err, URL: shownURL(at.url), isUnconnected: !at.isConnected}
}

// responseTimeout returns the timeout of a fetch and its setting: for the headers of media, for the whole of a playlist.
func (o *Origin) responseTimeout(f *fetch) *timeoutError {
	if f.mayBeHeld() {
		return &timeoutError{"fetch.blocking_timeout", o.config.Fetch.BlockingTimeout}
	}
	return &timeoutError{"fetch.response_timeout", o.config.Fetch.ResponseTimeout}
}

// refreshBackoff is the pause between refreshes of a stale object while the origin fails.
const refreshBackoff = time.Second
