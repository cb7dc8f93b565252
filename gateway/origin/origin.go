package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"usher/backends"
	"usher/gateway/upstream"
)

// Origin is one HLS origin with its addresses. It is safe for concurrent use. Close it before its [Cache].
type Origin struct {
	name      string
	id        string // the name and its addresses: a reload may give the name to other addresses
	cache     *Cache
	config    Config
	log       *slog.Logger
	addresses []*address
	client    *http.Client
	hosts     *upstream.Hosts
	upstream  upstream.Config

	ctx            context.Context
	cancel         context.CancelCauseFunc
	running        sync.WaitGroup
	waitingForConn atomic.Int64
	count          counters
	failures       failureLog
	reading        sync.Pool // of *bytes.Buffer, for the playlists that arrive

	mu     sync.Mutex
	active map[cacheKey]*fetch
	// held counts the active fetches with directives of each playlist, by its key without them.
	held map[cacheKey]int
	// heldFor counts those that each viewer began, and heldAt those that each address did.
	heldFor map[backends.SessionID]int
	heldAt  map[unique.Handle[netip.Prefix]]int
	closed  bool
	// redirectAddresses are the addresses of requests with a Base.
	redirectAddresses map[string]*address
}

// Option configures an Origin.
type Option func(*options)

type options struct {
	transport http.RoundTripper
	upstream  upstream.Config
	others    []*url.URL
}

// WithTransport replaces the origin's transport. The transport must not follow redirects or decode bodies, and should
// stop when the request's context ends.
func WithTransport(rt http.RoundTripper) Option { return func(o *options) { o.transport = rt } }

// WithUpstream sets which hosts the origin may name besides its addresses, and what it is sent. The config must be valid.
func WithUpstream(c upstream.Config) Option { return func(o *options) { o.upstream = c } }

// WithOtherOrigins gives the addresses of the other configured origins, to which the origin may redirect.
func WithOtherOrigins(urls ...*url.URL) Option {
	return func(o *options) { o.others = append(o.others, urls...) }
}

// New returns an origin. The first URL is preferred and the others are for failover. The path of a URL precedes the path
// of each request, and its query precedes the request's query. The config must be valid and the one of the cache.
func New(name string, urls []*url.URL, cache *Cache, c Config, log *slog.Logger, opts ...Option) (*Origin, error) {
	if len(urls) == 0 {
		return nil, fmt.Errorf("origin %q: no url", name)
	}
	var set options
	for _, opt := range opts {
		opt(&set)
	}
	o := &Origin{
		name: name, id: name, cache: cache, config: c, log: log.With(slog.String("origin", name)), upstream: set.upstream,
		active: make(map[cacheKey]*fetch), held: make(map[cacheKey]int), heldFor: make(map[backends.SessionID]int),
		heldAt: make(map[unique.Handle[netip.Prefix]]int), redirectAddresses: make(map[string]*address),
		reading: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
	for _, u := range urls {
		if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("origin %q: url %q: want http://host or https://host", name, u.Redacted())
		}
		o.addresses = append(o.addresses, newAddress(u, c.Fetch.MaxConns, true))
		o.id += " " + u.String()
	}
	var err error
	if o.hosts, err = upstream.NewHosts(urls, set.others, set.upstream); err != nil {
		return nil, fmt.Errorf("origin %q: %w", name, err)
	}
	files, err := set.upstream.TLS.Open(o.log)
	if err != nil {
		return nil, fmt.Errorf("origins.%s.%w", name, err)
	}
	if set.transport == nil {
		dial := o.dial()
		set.transport = newTransport(c.Fetch, dial, o.dialTLS(dial, files))
	}
	o.client = &http.Client{Transport: set.transport, CheckRedirect: o.checkRedirect}
	if set.upstream.KeepCookies {
		o.client.Jar = newCookies(o.hosts)
	}
	o.ctx, o.cancel = context.WithCancelCause(context.Background())
	return o, nil
}

// Close cancels the active fetches and waits for their end. Cached objects stay in the cache.
func (o *Origin) Close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel(ErrClosed)
	o.running.Wait()
	o.client.CloseIdleConnections()
}

// findOrStartFetch joins the active fetch of the key or starts one. It returns the cached entry instead if one has
// become fresh since the caller looked.
func (o *Origin) findOrStartFetch(k cacheKey, want byteRange, r *Request) (*fetch, *entry, error) {
	if err := checkPath(k.path, r.IsListed); err != nil {
		return nil, nil, fmt.Errorf("fetch from origin %q: path %q: %w", o.name, k.path, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil, ErrClosed
	}
	// The cache is read again because a fetch is stored before it is removed from active: without either, this call is
	// the first.
	old := o.cache.get(k)
	listed := o.cache.listed(k)
	if old.isFreshOf(listed, o.cache.now()) && !old.isShortOf(want, listed, r.IsComplete) {
		return nil, old, nil
	}
	if f := o.active[k]; f != nil && f.canBe(listed) && f.join() {
		o.count.coalesced.Add(1)
		return f, nil, nil
	}
	if k.class() == classBlocking && o.holdsTooMany(k, r) {
		return nil, nil, errTooManyHeld
	}
	f := &fetch{
		cache: o.cache, key: k.clone(), channel: channelOf(r, k), viewer: r.Viewer, wantedRange: want, inspect: r.Inspect, freshFor: r.FreshFor,
		isLate: r.IsLate, address: r.ViewerAddress,
		mayBeMedia: r.MayBeMedia && !o.wasPlaylist(k, old),
		stored:     old, started: o.cache.now(), done: make(chan struct{}), joined: 1,
	}
	f.ctx, f.cancel = context.WithCancelCause(o.ctx)
	o.active[f.key] = f
	o.countHeld(f, 1)
	o.running.Add(1)
	go o.runFetch(f)
	return f, nil, nil
}

// wasPlaylist reports whether the last response is known to have been a playlist, of whose key old is the entry. Then a slate is a failure.
// Reloads with directives are of playlists alone.
func (o *Origin) wasPlaylist(k cacheKey, old *entry) bool {
	return k.class() == classBlocking || old.hasObject() || o.cache.peekStored(k.ofLastInfo()) != nil
}

// removeFetch removes the fetch from active, so that the next call starts a new one.
func (o *Origin) removeFetch(f *fetch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.active[f.key] == f {
		delete(o.active, f.key)
	}
	o.countHeld(f, -1)
}

// holdsTooMany reports whether the origin may hold no other reload of the playlist, for the viewer, or for the viewer's address, which has
// a quarter of the connections. o.mu is held.
func (o *Origin) holdsTooMany(k cacheKey, r *Request) bool {
	return r.MaxHeld > 0 && o.held[k.withoutDirectives()] >= r.MaxHeld ||
		r.MaxHeldForViewer > 0 && o.heldFor[r.Viewer] >= r.MaxHeldForViewer ||
		o.heldAt[r.ViewerAddress] >= max(1, o.config.Fetch.MaxConns/4)
}

// countHeld counts a fetch that the origin may hold. o.mu is held.
func (o *Origin) countHeld(f *fetch, n int) {
	if f.key.class() != classBlocking {
		return
	}
	count(o.held, f.key.withoutDirectives(), n)
	if !f.viewer.IsZero() {
		count(o.heldFor, f.viewer, n)
	}
	if f.address != (unique.Handle[netip.Prefix]{}) {
		count(o.heldAt, f.address, n)
	}
}

// count adds to a count, and drops it when it is zero.
func count[K comparable](counts map[K]int, k K, n int) {
	if counts[k] += n; counts[k] == 0 {
		delete(counts, k)
	}
}

// freshTimeout returns how long a viewer with a stale copy waits for the fetch: not at all while no address is available.
func (o *Origin) freshTimeout(f *fetch) time.Duration {
	now := o.cache.now()
	if o.isUnavailable(f, now) {
		return 0
	}
	return time.Duration(f.started-now) + o.config.Cache.MaxWaitForFresh
}

// staleIfError reports whether the stale entry is served instead of err, and counts it.
func (o *Origin) staleIfError(k cacheKey, old *entry, err error) bool {
	if !errors.Is(err, errFreshTimeout) && (!o.isFailure(err, k, old) || !o.cache.canServeStale(k, old)) {
		return false
	}
	o.countStale(old)
	return true
}

// countStale counts a response from the stale entry. That it was media is no response: the media are.
func (o *Origin) countStale(e *entry) {
	if e.hasObject() {
		o.count.stale.Add(1)
	}
}

// isFailure reports whether a stale copy, which may be nil, may be served instead of err. So it may if one of several servers does not have
// yet what a playlist listed already when the copy was fetched.
func (o *Origin) isFailure(err error, k cacheKey, old *entry) bool {
	if isMissing(err) && old.hasObject() && old.freshLimit != 0 {
		s := o.cache.listed(k)
		return s != nil && old.started >= s.since
	}
	return allowsStale(err, k)
}
