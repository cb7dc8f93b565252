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
)

// run is the goroutine of a flight. It stores first, is forgotten then and finishes last, so that whoever finds the
// cache empty and no flight really is the first.
func (o *Origin) run(f *flight) {
	defer o.fetches.Done()
	defer f.cancel(nil)
	e, err := o.fetch(f)
	if err != nil && f.old != nil {
		f.old.retryAt.Store(o.cache.now() + int64(refreshPause))
	}
	if e != nil {
		o.cache.put(f.storeKey(e), e)
	}
	o.forget(f)
	f.finish(e, err)
}

// storeKey is the key of what came back: an origin that ignores ranges answers with the whole.
func (f *flight) storeKey(e *entry) key {
	if e.object != nil && e.object.Status == http.StatusOK {
		return f.key.whole()
	}
	return f.key
}

// fetch asks one address after the other until one settles the matter.
func (o *Origin) fetch(f *flight) (e *entry, err error) {
	defer func() {
		// No server stands above this goroutine that would catch it, and one playlist must not end the gateway.
		if p := recover(); p != nil {
			o.log.Error("panic while fetching", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			e, err = nil, &UnreachableError{Origin: o.name, Err: fmt.Errorf("panic: %v", p)}
		}
	}()
	for i, t := range o.candidates() {
		if i > 0 {
			o.count.failovers.Add(1)
		}
		var settled bool
		e, settled, err = o.attempt(f, t)
		if settled || f.ctx.Err() != nil {
			return e, err
		}
		o.log.Debug("fetch failed", slog.String("address", t.url.Host), slog.Any("error", err))
	}
	o.count.failures.Add(1)
	return e, err
}

// attempt asks one address. Settled means that there is no point in asking another.
func (o *Origin) attempt(f *flight, t *target) (e *entry, settled bool, err error) {
	a, err := o.open(f, t)
	if err != nil {
		return nil, backends.IsOverload(err), err
	}
	defer a.close()
	if err := o.refusal(f, a.StatusCode); err != nil {
		a.drain()
		return o.refused(a, err)
	}
	switch {
	case a.StatusCode == http.StatusNotModified:
		o.count.revalidated.Add(1)
		return o.renewed(f, a), true, nil
	case f.key.media:
		return o.receiveMedia(f, a)
	default:
		return o.receivePlaylist(f, a)
	}
}

// refusal is the error that a status amounts to, nil if there is something to receive.
func (o *Origin) refusal(f *flight, status int) *StatusError {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
		return nil
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if f.want.set {
			return nil
		}
	case http.StatusNotModified:
		if f.old.conditional() {
			return nil
		}
	}
	return &StatusError{Origin: o.name, Status: status}
}

// refused decides whether another address is asked (only after a 5xx) and whether the answer is remembered.
func (o *Origin) refused(a *answer, err *StatusError) (*entry, bool, error) {
	if !err.Missing() {
		return nil, err.Status < http.StatusInternalServerError, err
	}
	ttl := o.config.Cache.NegativeTTL
	return &entry{missing: err, freshUntil: a.received + int64(ttl), keep: ttl}, true, err
}

// answer is an origin's answer whose body is watched over.
type answer struct {
	*http.Response
	ctx      context.Context
	received int64 // when the headers were there, in the cache's time
	idle     *timeoutError
	timer    *time.Timer // media: armed while a read waits. Playlists: runs until the end.
	closers  []func()
}

func (a *answer) close() {
	_ = a.Body.Close()
	for _, c := range a.closers {
		c()
	}
}

// drain reads a short body that nobody wants, so that the connection can be used again.
func (a *answer) drain() {
	const short = 64 << 10
	if a.ContentLength >= 0 && a.ContentLength <= short {
		_, _ = io.CopyN(io.Discard, a, short)
	}
}

// Read reads the body. An end that was ours names the setting.
func (a *answer) Read(p []byte) (int, error) {
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

// open sends the request to one address and waits for the headers.
func (o *Origin) open(f *flight, t *target) (*answer, error) {
	c := f.key.class()
	limit := o.limit(c)
	ctx, cancel := context.WithCancelCause(f.ctx)
	timer := time.AfterFunc(limit.value, func() { cancel(limit) })
	release, err := o.acquire(ctx, t, c)
	if err != nil {
		timer.Stop()
		cancel(nil)
		return nil, err
	}
	started := o.cache.now()
	o.count.fetches.Add(1)
	resp, err := o.client.Do(o.request(ctx, f, t)) //nolint:bodyclose // answer.close
	if err != nil {
		err = o.unanswered(ctx, f, t, started, err)
		timer.Stop()
		cancel(nil)
		release()
		return nil, err
	}
	a := &answer{Response: resp, ctx: ctx, received: o.cache.now(), timer: timer}
	o.answeredBy(t, a.received)
	if c == classMedia {
		timer.Stop()
		a.idle = &timeoutError{"fetch.idle_timeout", o.config.Fetch.IdleTimeout}
		a.timer = time.AfterFunc(a.idle.value, func() { cancel(a.idle) })
		a.timer.Stop()
	}
	a.closers = []func(){func() { a.timer.Stop() }, func() { cancel(nil) }, release}
	return a, nil
}

// request tells the origin what is wanted and nothing of who wants it.
func (o *Origin) request(ctx context.Context, f *flight, t *target) *http.Request {
	u := f.key.url(t.url)
	r := (&http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {"usher"}, "Accept-Encoding": {"gzip"}},
	}).WithContext(ctx)
	if f.key.media {
		r.Header.Set("Accept-Encoding", "identity")
	}
	if f.want.set {
		r.Header.Set("Range", f.key.variant)
	}
	if f.old.conditional() {
		if f.old.etag != "" {
			r.Header.Set("If-None-Match", f.old.etag)
		}
		if f.old.lastModified != "" {
			r.Header.Set("If-Modified-Since", f.old.lastModified)
		}
	}
	return r
}

func tooLarge(setting string, limit backends.ByteSize) error {
	return fmt.Errorf("%s=%v reached: %w", setting, limit, ErrTooLarge)
}

// broken is the error of a body that did not come to its end.
func (o *Origin) broken(f *flight, err error) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	if errors.Is(err, ErrTooLarge) {
		return fmt.Errorf("fetch from origin %q: %w", o.name, err)
	}
	return &UnreachableError{Origin: o.name, Err: fmt.Errorf("read the body: %w", err)}
}
