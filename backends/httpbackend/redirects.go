package httpbackend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is how many redirects of one call are followed, as many as Go's own client follows.
const maxRedirects = 10

// send makes the call and follows redirects where the status table says so.
func (c *Client) send(ctx context.Context, r *http.Request) (*http.Response, error) {
	for hops := 0; ; hops++ {
		resp, err := c.transport.RoundTrip(r)
		if err != nil || !c.statuses.Follows(resp.StatusCode) {
			return resp, err
		}
		next := nextHop(r, resp)
		if next == nil {
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, int64(c.maxBody))
		_ = resp.Body.Close()
		if hops == maxRedirects {
			return nil, errTooManyRedirects
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
