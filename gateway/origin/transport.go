package origin

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"usher/backends/setting"
	"usher/gateway/upstream"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dial returns the dial function of the origin. A connection to a host that is no configured address is checked after the
// host's name was resolved, so that no name leads into the operator's network.
func (o *Origin) dial() dialFunc {
	plain, checked := &net.Dialer{}, &net.Dialer{}
	checked.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		resolved, err := netip.ParseAddrPort(address)
		if err != nil || !o.hosts.AllowsAddress(resolved.Addr()) {
			return &HostError{Origin: o.name, Address: resolved.Addr()}
		}
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if o.hosts.IsConfigured(address) {
			return setting.Dial(ctx, plain, network, address)
		}
		conn, err := setting.Dial(ctx, checked, network, address)
		if refused, ok := errors.AsType[*HostError](err); ok {
			refused.Host = address
			return nil, refused
		}
		return conn, err
	}
}

// dialTLS returns the dial function for TLS. The client certificate is for the hosts that get the origin's header fields, and
// tls.server_name for its own addresses.
func (o *Origin) dialTLS(connect dialFunc, files *setting.TLSFiles) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return files.Handshake(ctx, conn, address, func(c *tls.Config) {
			m := o.hosts.Match("https", address)
			if m.Kind != upstream.Own {
				c.ServerName = ""
			}
			if !m.SendsHeaders {
				c.Certificates = nil
			}
			c.NextProtos = []string{"h2", "http/1.1"}
		})
	}
}

// within bounds a dial function by fetch.connect_timeout.
func (c FetchConfig) within(connect dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, c.ConnectTimeout, &timeoutError{"fetch.connect_timeout", c.ConnectTimeout})
		defer cancel()
		conn, err := connect(ctx, network, address)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("dial %s: %w", address, context.Cause(ctx))
		}
		return conn, err
	}
}

func newTransport(c FetchConfig, connect, connectTLS dialFunc) *http.Transport {
	// A request that times out does not end its connection of HTTP/2, which the next ones would use. So a silent one is asked for a sign of
	// life, and gone when its first request has waited for fetch.response_timeout.
	silence := c.ResponseTimeout / 2
	return &http.Transport{
		DialContext:            c.within(connect),
		DialTLSContext:         c.within(connectTLS),
		DisableCompression:     true, // requests set Accept-Encoding themselves, and decoded bodies are bounded
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: silence},
		MaxIdleConnsPerHost:    c.MaxConns,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// hop is the URL of which a request waits for a response: that of its address, or to which it was redirected.
type hop struct {
	url *url.URL
	// isRedirected reports that the address has responded.
	isRedirected bool
	// isConnected reports that the request has a connection.
	isConnected bool
}

// trace returns a context with which the client keeps the hop up to date.
func (h *hop) trace(ctx context.Context) context.Context {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { h.isConnected = true }})
	return context.WithValue(ctx, hopKey{}, h)
}

// hopKey is the key of a request's *hop in its context.
type hopKey struct{}

// maxRedirects is how many redirects in a row are followed.
const maxRedirects = 3

// checkRedirect allows a redirect to the hosts that the operator wrote. A public name is asked at the address that it means,
// because viewers' requests for it may arrive at this gateway.
func (o *Origin) checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
	}
	m := o.hosts.Match(next.URL.Scheme, next.URL.Host)
	switch {
	case m.Kind == upstream.Foreign:
		return fmt.Errorf("%w: %w", errRedirect, &HostError{Origin: o.name, Host: next.URL.Host})
	case m.IsPublicName:
		own := via[0].URL
		if !o.isOwnAddress(own) {
			own = o.addresses[0].url
		}
		next.URL.Scheme, next.URL.Host, next.URL.User, next.Host = own.Scheme, own.Host, own.User, ""
	case m.Kind == upstream.Own && next.URL.User == nil:
		next.URL.User = o.addresses[m.Address].url.User
	}
	next.Header = o.redirectHeader(via[0].Header, m.SendsHeaders) //nolint:gosec // it copies no secret, and sets those that the operator allows
	if h, ok := next.Context().Value(hopKey{}).(*hop); ok {
		h.url, h.isRedirected, h.isConnected = next.URL, true, false
	}
	return nil
}

func (o *Origin) isOwnAddress(u *url.URL) bool {
	m := o.hosts.Match(u.Scheme, u.Host)
	return m.Kind == upstream.Own && !m.IsPublicName
}

// requestHeader returns the header of a request without what belongs to the fetch.
func (o *Origin) requestHeader(sendsHeaders bool) http.Header {
	h := http.Header{"User-Agent": {"usher"}}
	if sendsHeaders {
		for name, value := range o.upstream.Headers {
			h.Set(name, value.Reveal())
		}
	}
	return h
}

// redirectHeader returns the header of a request that was redirected. The client has copied the origin's header fields, and
// set a Referer with the query of the URL before, neither of which is for every host.
func (o *Origin) redirectHeader(first http.Header, sendsHeaders bool) http.Header {
	h := o.requestHeader(sendsHeaders)
	for _, name := range []string{"Accept-Encoding", "Range", "If-None-Match", "If-Modified-Since"} {
		if values := first.Values(name); len(values) > 0 {
			h[name] = values
		}
	}
	return h
}

// maxCookies bounds the cookies that are kept of one origin. Beyond it all are forgotten.
const maxCookies = 200

// cookies is the cookie jar of an origin. Only hosts that get the origin's header fields set cookies, and get them.
type cookies struct {
	hosts *upstream.Hosts
	mu    sync.Mutex
	jar   *cookiejar.Jar
	names map[string]struct{} // of the cookies in the jar, with their hosts and paths
}

func newCookies(hosts *upstream.Hosts) *cookies {
	c := &cookies{hosts: hosts}
	c.reset()
	return c
}

func (c *cookies) reset() {
	c.jar, _ = cookiejar.New(nil) // it never fails
	c.names = make(map[string]struct{})
}

// SetCookies implements http.CookieJar.
func (c *cookies) SetCookies(u *url.URL, set []*http.Cookie) {
	if !c.hosts.Match(u.Scheme, u.Host).SendsHeaders {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range set {
		folder := u.Path[:strings.LastIndexByte(u.Path, '/')+1] // of a cookie without a path
		c.names[u.Hostname()+" "+one.Domain+" "+cmp.Or(one.Path, folder)+" "+one.Name] = struct{}{}
	}
	if len(c.names) > maxCookies {
		c.reset()
	}
	c.jar.SetCookies(u, set)
}

// Cookies implements http.CookieJar.
func (c *cookies) Cookies(u *url.URL) []*http.Cookie {
	if !c.hosts.Match(u.Scheme, u.Host).SendsHeaders {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jar.Cookies(u)
}
