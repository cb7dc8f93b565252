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
	// ejectedUntil is until when the address is ejected, in the cache's time; 0 means that it is not.
	ejectedUntil atomic.Int64
	// lastResponse is when the address last responded to any fetch, in the cache's time.
	lastResponse atomic.Int64
}

func newAddress(u *url.URL, maxConns int, sendsHeaders bool) *address {
	addr := &address{url: u, sendsHeaders: sendsHeaders}
	for c := range addr.connSlots {
		addr.connSlots[c] = make(chan struct{}, maxConns)
	}
	return addr
}

// prefix is the path of the address, before every path on it.
func (addr *address) prefix() string { return prefixOf(addr.url) }

func prefixOf(u *url.URL) string { return strings.TrimSuffix(u.EscapedPath(), "/") }

func (addr *address) isEjected(now int64) bool { return now < addr.ejectedUntil.Load() }

// acquireConn waits for a free connection slot. The returned function frees it. It returns a *backends.Overload if too
// many fetches wait or the wait takes too long.
func (o *Origin) acquireConn(ctx context.Context, addr *address, c fetchClass) (release func(), err error) {
	slots := addr.connSlots[c]
	release = func() { <-slots }
	select {
	case slots <- struct{}{}:
		return release, nil
	default:
	}
	defer o.waitingForConn.Add(-1)
	if o.waitingForConn.Add(1) > int64(o.config.Fetch.MaxWaiting) {
		return nil, o.overload("fetch.max_waiting", o.config.Fetch.MaxWaiting)
	}
	select {
	case slots <- struct{}{}:
		return release, nil
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
func (o *Origin) addressesOf(k cacheKey) []*address {
	if k.base != "" {
		return []*address{o.redirectAddress(k.base)}
	}
	return o.candidates()
}

// candidates returns the origin's own addresses to try, best first. Ejected addresses are tried only if all are ejected, and then the
// one whose ejection ends first comes first.
func (o *Origin) candidates() []*address {
	if len(o.addresses) == 1 {
		return o.addresses
	}
	now := o.cache.now()
	up := make([]*address, 0, len(o.addresses))
	for _, addr := range o.addresses {
		if !addr.isEjected(now) {
			up = append(up, addr)
		}
	}
	if len(up) > 0 {
		return up
	}
	return slices.SortedStableFunc(slices.Values(o.addresses), func(a, b *address) int {
		return cmp.Compare(a.ejectedUntil.Load(), b.ejectedUntil.Load())
	})
}

func (o *Origin) allEjected(now int64) bool {
	for _, addr := range o.addresses {
		if !addr.isEjected(now) {
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
	case !isHeld:
		o.eject(addr, started, o.cache.now(), err)
	}
	return &UnreachableError{Origin: o.name, Err: err}
}

// responseTimeout returns the timeout of a fetch and its setting: for the headers of media, for the whole of a playlist.
func (o *Origin) responseTimeout(c fetchClass) *timeoutError {
	if c == classBlocking {
		return &timeoutError{"fetch.blocking_timeout", o.config.Fetch.BlockingTimeout}
	}
	return &timeoutError{"fetch.response_timeout", o.config.Fetch.ResponseTimeout}
}

// refreshBackoff is the pause between refreshes of a stale object while the origin fails.
const refreshBackoff = time.Second
