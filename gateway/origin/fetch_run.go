package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"usher/backends"
	"usher/backends/setting"
)

// runFetch is the goroutine of a fetch. It stores the entry, then removes the fetch from active, then finishes it. A
// caller that finds neither an entry nor a fetch is therefore the first.
func (o *Origin) runFetch(f *fetch) {
	defer o.running.Done()
	defer f.cancel(nil)
	e, err := o.tryAddresses(f)
	if err != nil && o.isFailure(err, f.key, f.stored) {
		e = o.failedEntry(f, e, err)
	}
	if e != nil {
		o.cache.store(f.storeKey(e), e)
	}
	o.storeNewest(f, e)
	o.removeFetch(f)
	f.finish(e, err)
}

// failedEntry returns what is stored of a fetch that failed, so that the origin is asked once in refreshBackoff while there is a copy. e is
// what it would be without one.
func (o *Origin) failedEntry(f *fetch, e *entry, err error) *entry {
	now, wasCancelled := o.cache.now(), f.ctx.Err() != nil // here, which says nothing of the origin
	if f.stored != nil && !wasCancelled {
		f.stored.nextRefresh.Store(now + int64(refreshBackoff))
	}
	switch {
	case f.stored.canServeStale(now):
		return nil // a playlist that is missing for a moment
	case e == nil && f.isLate && f.key.class() == classBlocking && !wasCancelled && o.newestPlain(f.key, nil) != nil:
		return negativeEntry(err, now, refreshBackoff)
	default:
		return e
	}
}

// storeKey returns the key of the entry. An origin that ignores ranges responds with the whole object.
func (f *fetch) storeKey(e *entry) cacheKey {
	if e.object != nil && e.object.Status == http.StatusOK {
		return f.key.withoutRange()
	}
	return f.key
}

// tryAddresses sends the request to one address after the other until a result is final.
func (o *Origin) tryAddresses(f *fetch) (e *entry, err error) {
	defer func() {
		// No server recovers panics of this goroutine, and one playlist must not end the gateway.
		if p := recover(); p != nil {
			o.log.Error("fetch panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			e, err = nil, &UnreachableError{Origin: o.name, Err: fmt.Errorf("panic: %v", p)}
		}
	}()
	var lacking []*address // that do not have what the next one may have
	for i, addr := range o.addressesOf(f.key, f.channel) {
		if i > 0 {
			o.count.failovers.Add(1)
		}
		var isFinal bool
		e, isFinal, err = o.tryAddress(f, addr)
		if err == nil {
			addr.setServing(f.channel)
			o.avoid(lacking, f.channel)
		}
		if isFinal || f.ctx.Err() != nil {
			return e, err
		}
		if e != nil {
			lacking = append(lacking, addr)
		}
		o.log.Debug("fetch failed", slog.String("address", addr.url.Host), slog.Any("error", err))
	}
	o.count.failures.Add(1)
	return e, err
}

// avoid has a channel fetched from other addresses than those that do not have it.
func (o *Origin) avoid(lacking []*address, channel string) {
	now := o.cache.now()
	for _, addr := range lacking {
		addr.setFailing(channel, channelFailure{until: now + int64(o.config.Fetch.EjectFor)}, now)
	}
}

// tryAddress sends the request to one address. A final result is not tried at another address.
func (o *Origin) tryAddress(f *fetch, addr *address) (e *entry, isFinal bool, err error) {
	a, err := o.sendRequest(f, addr)
	if err != nil {
		return nil, backends.IsOverload(err), err
	}
	defer a.close()
	if err := o.statusError(f, a.StatusCode); err != nil {
		err.URL = a.url()
		a.drain()
		return o.onErrorStatus(f, a, err)
	}
	switch {
	case a.StatusCode == http.StatusNotModified:
		o.count.revalidated.Add(1)
		return o.freshenedEntry(f, a), true, nil
	case f.key.media:
		return o.receiveMedia(f, a)
	default:
		return o.receivePlaylist(f, a)
	}
}

// statusError returns the error for a status, or nil if the response can be used.
func (o *Origin) statusError(f *fetch, status int) *StatusError {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
		return nil
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if f.wantedRange.isSet {
			return nil
		}
	case http.StatusNotModified:
		if f.stored.hasValidator() {
			return nil
		}
	}
	return &StatusError{Origin: o.name, Status: status}
}

// onErrorStatus decides whether another address is tried (after a 5xx, and after a 404 on request) and whether the response is
// cached.
func (o *Origin) onErrorStatus(f *fetch, a *response, err *StatusError) (*entry, bool, error) {
	if !err.IsNotFound() {
		return nil, err.Status < http.StatusInternalServerError, err
	}
	e := negativeEntry(err, a.received, o.config.Cache.NegativeTTL)
	e.started, e.freshLimit = f.started, e.freshUntil.Load()
	return e, !o.upstream.FallbackOn404, err
}

// response is an origin's response whose body is read under a timeout.
type response struct {
	*http.Response
	address  *address
	hop      *hop
	ctx      context.Context
	cancel   func()
	received int64 // when the headers arrived, in the cache's time
	idle     *timeoutError
	timer    *time.Timer // media: runs while a read waits; playlists: runs until the end
	closers  []func()
}

// url returns the URL of the response, after redirects.
func (a *response) url() string {
	return shownURL(a.hop.url)
}

func (a *response) close() {
	_ = a.Body.Close()
	for _, c := range a.closers {
		c()
	}
}

// drainTimeout is how long a body that nobody needs is waited for, while viewers wait for the next address.
const drainTimeout = time.Second

// drain reads and drops a short body, so that the connection can be reused.
func (a *response) drain() {
	const short = 64 << 10
	if a.ContentLength >= 0 && a.ContentLength <= short {
		timer := time.AfterFunc(drainTimeout, a.cancel)
		defer timer.Stop()
		_, _ = io.CopyN(io.Discard, a, short)
	}
}

// Read reads the body. An error by a timeout of the gateway names the setting.
func (a *response) Read(p []byte) (int, error) {
	if a.idle != nil {
		a.timer.Reset(a.idle.value)
		defer a.timer.Stop()
	}
	n, err := a.Body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	return n, err
}

// sendRequest sends the request to one address and waits for the headers.
func (o *Origin) sendRequest(f *fetch, addr *address) (*response, error) {
	c := f.key.class()
	limit := o.responseTimeout(f)
	ctx, cancel := context.WithCancelCause(f.ctx)
	timer := time.AfterFunc(limit.value, func() { cancel(limit) })
	conn, err := o.acquireConn(ctx, addr, c)
	if err != nil {
		timer.Stop()
		cancel(nil)
		return nil, err
	}
	started := o.cache.now()
	o.count.fetches.Add(1)
	at := new(hop)
	request := o.newRequest(at.trace(ctx), f, addr)
	at.url = request.URL
	resp, err := o.client.Do(request) //nolint:bodyclose // response.close
	if err != nil {
		err = o.requestError(ctx, f, addr, at, started, err)
		timer.Stop()
		cancel(nil)
		conn.release()
		return nil, err
	}
	a := &response{
		Response: resp, address: addr, hop: at, ctx: ctx, cancel: func() { cancel(nil) }, received: o.cache.now(), timer: timer,
	}
	o.recordResponse(addr, a.received)
	if c == classMedia {
		timer.Stop()
		a.idle = &timeoutError{"fetch.idle_timeout", o.config.Fetch.IdleTimeout}
		a.timer = time.AfterFunc(a.idle.value, func() { cancel(a.idle) })
		a.timer.Stop()
	}
	a.closers = []func(){func() { a.timer.Stop() }, a.cancel, conn.release}
	f.conn = conn
	return a, nil
}

// newRequest returns the request to the origin. It holds nothing about the viewer but the range.
func (o *Origin) newRequest(ctx context.Context, f *fetch, addr *address) *http.Request {
	u := f.key.url(addr.url)
	r := (&http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: o.requestHeader(addr.sendsHeaders),
	}).WithContext(ctx)
	r.Header.Set("Accept-Encoding", "gzip")
	if f.key.media {
		r.Header.Set("Accept-Encoding", "identity")
	}
	if f.wantedRange.isSet {
		r.Header.Set("Range", f.key.variant)
	}
	if f.stored.hasValidator() {
		if f.stored.etag != "" {
			r.Header.Set("If-None-Match", f.stored.etag)
		}
		if f.stored.lastModified != "" {
			r.Header.Set("If-Modified-Since", f.stored.lastModified)
		}
	}
	return r
}

func tooLarge(setting string, limit setting.ByteSize) error {
	return fmt.Errorf("%s=%v reached: %w", setting, limit, ErrTooLarge)
}

// bodyError returns the error of a body that ended early. An address that sends headers alone is avoided for the channel, because each
// request would cost a timeout.
func (o *Origin) bodyError(f *fetch, a *response, err error) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	switch {
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("fetch from origin %q: %w", o.name, err)
	case errors.Is(err, errNoConn):
		return o.overload("fetch.max_conns", o.config.Fetch.MaxConns)
	}
	_, isLate := errors.AsType[*timeoutError](err)
	if isLate && f.head == nil && !f.mayBeHeld() && !a.hop.isRedirected {
		o.avoid([]*address{a.address}, f.channel)
	}
	return &UnreachableError{Origin: o.name, Err: fmt.Errorf("read the body: %w", err), URL: a.url()}
}
