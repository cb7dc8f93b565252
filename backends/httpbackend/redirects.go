package httpbackend

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is how many redirects of one call are followed, as many as Go's own client follows.
const maxRedirects = 10

// send makes the call and follows redirects where the status table says so. hops is how many it followed.
func (c *Client) send(ctx context.Context, r *http.Request) (x *exchange, hops int, err error) {
	for ; ; hops++ {
		x, err = c.exchange(ctx, r)
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
		r = c.redirectedRequest(ctx, r, next)
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

// redirectedRequest returns the request for a redirect's target. Another host gets neither the configured headers nor the
// viewer's credentials in headers.
func (c *Client) redirectedRequest(ctx context.Context, r *http.Request, next *url.URL) *http.Request {
	to := r.Clone(ctx)
	to.URL, to.Host = withoutUser(next), next.Host
	if strings.EqualFold(next.Host, c.address.Host) && next.Scheme == c.address.Scheme {
		return to
	}
	for name := range c.headers {
		if name != "User-Agent" {
			delete(to.Header, name)
		}
	}
	to.Header.Del("Authorization")
	to.Header.Del("Cookie")
	return to
}
