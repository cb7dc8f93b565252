package httpbackend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"usher/backends"
	"usher/backends/setting"
)

const (
	// drainTimeout bounds how long the rest of a body is read after the decision, so that a body without end keeps no
	// connection for long.
	drainTimeout = time.Second
	// pageWaitShare and maxPageWait bound how long an allowing answer waits for the beginning of its body: a tenth of what is
	// left of the call's time. A body that is ready arrives with its header, so a healthy middleware costs nothing.
	pageWaitShare = 10
	maxPageWait   = 500 * time.Millisecond
	// maxPage is how much of a body is searched for signs of a broken page, in bytes.
	maxPage = 4 << 10
)

// exchange is one request and its answer. It can outlive the context of the call, so that the rest of the body can be read after the
// decision. It ends with close.
type exchange struct {
	resp *http.Response
	lifetime
}

// lifetime is how long an exchange lasts. It begins as that of the call's context.
type lifetime interface {
	// Detach has the exchange go on when the call's context ends.
	Detach()
	// Abort makes what waits for the answer fail. It does nothing after the end of the exchange.
	Abort()
}

// contextLife is the lifetime of an exchange that has a context of its own.
type contextLife struct {
	cancel context.CancelCauseFunc
	detach func() bool
}

func (l *contextLife) Detach() { l.detach() }
func (l *contextLife) Abort()  { l.cancel(nil) }

// noLife is the lifetime of an exchange of which nothing is left to read.
type noLife struct{}

func (noLife) Detach() {}
func (noLife) Abort()  {}

// maxRedirects is how many redirects of one call are followed, as many as Go's own client follows.
const maxRedirects = 10

// send makes the call and follows redirects where the status table says so. hops is how many it followed.
func (c *Client) send(ctx context.Context, r *http.Request, viewer []backends.Header) (x *exchange, hops int, err error) {
	for ; ; hops++ {
		x, err = c.exchange(r)
		if err != nil || !c.statuses.Follows(x.resp.StatusCode) {
			return x, hops, err
		}
		next := nextHop(r, x.resp)
		if next == nil {
			return x, hops, nil
		}
		c.drain(x)
		if hops == maxRedirects {
			return nil, hops, errTooManyRedirects
		}
		r = c.redirectedRequest(ctx, r, next, viewer)
	}
}

var errTooManyRedirects = errors.New("more than 10 redirects")

// nextHop returns the target of a redirect, or nil if it is no http or https address.
func nextHop(r *http.Request, resp *http.Response) *url.URL {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil
	}
	next, err := r.URL.Parse(location)
	if err != nil || next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" {
		return nil
	}
	next.RawQuery = escapeUnsafe(next.RawQuery)
	return next
}

// redirectedRequest returns the request for a redirect's target. Another host gets neither the configured
// headers and the signature nor those in which the viewer shows credentials, and must not be in a private network.
func (c *Client) redirectedRequest(
	ctx context.Context, r *http.Request, next *url.URL, viewer []backends.Header,
) *http.Request {
	to := r.Clone(ctx)
	to.URL, to.Host = withoutUser(next), next.Host
	if isSameHost(next, c.address) && port(next) == port(c.address) && next.Scheme == c.address.Scheme {
		c.signer.Sign(to, time.Now())
		return to
	}
	c.signer.Remove(to.Header)
	for name := range c.headers {
		if name != "User-Agent" {
			delete(to.Header, name)
		}
	}
	to.Header.Del("Authorization") // from the address
	for _, field := range viewer {
		if !setting.IsReservedHeader(field.Name) {
			to.Header.Del(field.Name)
		}
	}
	return to.WithContext(withRedirected(ctx))
}

// exchange sends one request and returns when the answer's header has arrived.
func (c *Client) exchange(r *http.Request) (*exchange, error) {
	return c.pool.transport(time.Now()).exchange(r)
}

// close ends the exchange. The connection is reused if the body was read to its end.
func (x *exchange) close() {
	x.Detach()
	_ = x.resp.Body.Close()
	x.Abort()
}

// isEmpty reports whether the header says that there is no body.
func (x *exchange) isEmpty() bool { return x.resp.Body == http.NoBody }

// readBody returns the body, at most limit bytes of it, within the call's context.
func (x *exchange) readBody(limit int64) ([]byte, error) {
	defer x.close()
	return io.ReadAll(io.LimitReader(x.resp.Body, limit))
}

// pageWait returns how long an answer waits for the beginning of its body.
func pageWait(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return maxPageWait
	}
	return min(time.Until(deadline)/pageWaitShare, maxPageWait)
}

// readStart returns the beginning of the body. It waits for the body's end or first byte as long as the call's context
// lasts, and for what follows the first byte no longer than pageWait.
func (c *Client) readStart(ctx context.Context, x *exchange) ([]byte, error) {
	text := make([]byte, maxPage)
	n, err := x.resp.Body.Read(text)
	if err == nil {
		timer := time.AfterFunc(pageWait(ctx), x.Abort)
		for err == nil && n < len(text) {
			var more int
			more, err = x.resp.Body.Read(text[n:])
			n += more
		}
		timer.Stop()
	}
	c.drain(x)
	if n == 0 && err != io.EOF {
		return nil, err
	}
	return text[:n], nil
}

// peek returns what arrives of the body's beginning within that time, and drains the rest. If more arrives afterwards,
// it calls late with all of the beginning.
func (c *Client) peek(ctx context.Context, x *exchange, wait time.Duration, late func(text []byte)) []byte {
	if x.isEmpty() { // as mostly; what follows is allocated
		x.close()
		return nil
	}
	var (
		mu     sync.Mutex
		text   []byte
		isLate bool
	)
	ended := make(chan struct{})
	isStarted := c.readLater(x, func(body io.Reader) {
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			if close(ended); isLate {
				late(text)
			}
		}()
		_, _ = io.Copy(writerFunc(func(chunk []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			text = append(text, chunk...)
			return len(chunk), nil
		}), io.LimitReader(body, maxPage))
	})
	if !isStarted {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case <-ended:
	default:
		isLate = true
	}
	return slices.Clone(text)
}

// drain reads the rest of the body later, so that the connection can be reused and nobody waits for it.
func (c *Client) drain(x *exchange) { c.readLater(x, func(io.Reader) {}) }

// readLater calls read with the body, reads on to its end, and closes the exchange, all in the background and within
// drainTimeout. Where as many bodies are read already as the client keeps connections, it closes the exchange at once,
// and returns false.
func (c *Client) readLater(x *exchange, read func(body io.Reader)) (isStarted bool) {
	if x.isEmpty() {
		x.close()
		return false
	}
	x.Detach()
	select {
	case c.draining <- struct{}{}:
	default:
		x.close()
		return false
	}
	stop := context.AfterFunc(c.life, x.Abort)
	timer := time.AfterFunc(drainTimeout, x.Abort)
	go func() {
		defer func() {
			x.close()
			stop()
			timer.Stop()
			<-c.draining
		}()
		read(x.resp.Body)
		_, _ = io.CopyN(io.Discard, x.resp.Body, int64(c.maxBody))
	}()
	return true
}

// writerFunc is a function as an [io.Writer].
type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }
