package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Origin is one HLS origin with its addresses. It is safe for concurrent use. Close it before its [Cache].
type Origin struct {
	name    string
	id      string // the name and what it stands for: a reload may give the name to other addresses
	cache   *Cache
	config  Config
	log     *slog.Logger
	targets []*target
	client  *http.Client

	ctx     context.Context
	cancel  context.CancelCauseFunc
	fetches sync.WaitGroup
	waiting atomic.Int64
	count   counters

	mu      sync.Mutex
	flights map[key]*flight
	closed  bool
}

// Option changes how an Origin is made.
type Option func(*options)

type options struct {
	transport     http.RoundTripper
	redirectHosts []string
}

// WithTransport fetches through rt in place of a transport of the origin's own. It must not follow redirects or decode
// bodies, and it should end with the request's context.
func WithTransport(rt http.RoundTripper) Option { return func(o *options) { o.transport = rt } }

// WithRedirectHosts lets the origin redirect to these hosts ("host" or "host:port"), besides its own addresses: those
// of the other configured origins.
func WithRedirectHosts(hosts ...string) Option {
	return func(o *options) { o.redirectHosts = append(o.redirectHosts, hosts...) }
}

// New makes an origin. The first of urls is preferred, the others are for failover; a path in one is put before the
// path of each request, a query before its query. The config must be valid and be the one that the cache was made with.
func New(name string, urls []*url.URL, cache *Cache, c Config, log *slog.Logger, opts ...Option) (*Origin, error) {
	if len(urls) == 0 {
		return nil, fmt.Errorf("origin %q: no url", name)
	}
	var set options
	for _, opt := range opts {
		opt(&set)
	}
	o := &Origin{name: name, id: name, cache: cache, config: c, log: log.With(slog.String("origin", name)), flights: make(map[key]*flight)}
	for _, u := range urls {
		if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("origin %q: url %q: want http://host or https://host", name, u.Redacted())
		}
		o.targets = append(o.targets, newTarget(u, c.Fetch.MaxConns))
		o.id += " " + u.String()
	}
	if set.transport == nil {
		set.transport = newTransport(c.Fetch, (&net.Dialer{}).DialContext)
	}
	o.client = &http.Client{Transport: set.transport, CheckRedirect: redirectPolicy(urls, set.redirectHosts)}
	o.ctx, o.cancel = context.WithCancelCause(context.Background())
	return o, nil
}

// Close cancels what is being fetched and waits for it to end. What is in the cache stays there.
func (o *Origin) Close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel(ErrClosed)
	o.fetches.Wait()
	o.client.CloseIdleConnections()
}

// join returns the flight for k, entered, a new one if need be; or what the cache has meanwhile.
func (o *Origin) join(k key, want byteRange, r *Request) (*flight, *entry, error) {
	if err := checkPath(r.Path); err != nil {
		return nil, nil, fmt.Errorf("fetch from origin %q: path %q: %w", o.name, r.Path, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil, ErrClosed
	}
	// Again, because a flight stores first and is forgotten afterwards: whoever finds neither is the first.
	old := o.cache.get(k)
	if old != nil && o.cache.now() < old.freshUntil {
		return nil, old, nil
	}
	if f := o.flights[k]; f != nil && f.enter() {
		o.count.coalesced.Add(1)
		return f, nil, nil
	}
	f := &flight{
		cache: o.cache, key: k.clone(), want: want, freshness: r.Freshness, old: old,
		started: o.cache.now(), done: make(chan struct{}), viewers: 1,
	}
	f.ctx, f.cancel = context.WithCancelCause(o.ctx)
	o.flights[f.key] = f
	o.fetches.Add(1)
	go o.run(f)
	return f, nil, nil
}

// forget makes the next who asks start a flight of his own.
func (o *Origin) forget(f *flight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flights[f.key] == f {
		delete(o.flights, f.key)
	}
}

// patience is how long a viewer who could be given a stale copy waits for the flight.
func (o *Origin) patience(f *flight) time.Duration {
	now := o.cache.now()
	if o.allDown(now) {
		return 0
	}
	return time.Duration(f.started-now) + o.config.Cache.MaxWaitForFresh
}

// excuse reports whether old may be served in place of err.
func (o *Origin) excuse(old *entry, err error) bool {
	if !maskable(err) || !old.servable(o.cache.now()) {
		return false
	}
	o.count.stale.Add(1)
	return true
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func newTransport(c FetchConfig, connect dialFunc) *http.Transport {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, c.ConnectTimeout, &timeoutError{"fetch.connect_timeout", c.ConnectTimeout})
		defer cancel()
		conn, err := connect(ctx, network, address)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("dial %s: %w", address, context.Cause(ctx))
		}
		return conn, err
	}
	return &http.Transport{
		DialContext:            dial,
		TLSHandshakeTimeout:    c.ConnectTimeout,
		DisableCompression:     true, // what is asked for differs, and what comes back is bounded
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    c.MaxConns,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// maxRedirects is how many times in a row an origin may send us elsewhere.
const maxRedirects = 3

func redirectPolicy(urls []*url.URL, hosts []string) func(*http.Request, []*http.Request) error {
	allowed := make(map[string]bool)
	for _, u := range urls {
		allowed[authority(u.Scheme, u.Host)] = true
	}
	for _, h := range hosts {
		allowed[authority("http", h)], allowed[authority("https", h)] = true, true
	}
	return func(next *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
		case next.URL.Scheme != "http" && next.URL.Scheme != "https",
			!allowed[authority(next.URL.Scheme, next.URL.Host)]:
			return fmt.Errorf("%w: %s://%s is no configured origin", errRedirect, next.URL.Scheme, next.URL.Host)
		}
		return nil
	}
}

// authority is host and port in one spelling.
func authority(scheme, host string) string {
	host = strings.ToLower(host)
	if (&url.URL{Host: host}).Port() != "" {
		return host
	}
	if scheme == "https" {
		return host + ":443"
	}
	return host + ":80"
}
