package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// sourceKey is the context's key of the source address.
type sourceKey struct{}

func (c *Client) transport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols: protocols, TLSClientConfig: c.config.TLS, DisableCompression: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			source, _ := ctx.Value(sourceKey{}).(netip.Addr)
			return c.config.Dial(ctx, source, address)
		},
	}
}

// doHTTP2 does an exchange by HTTP/2.
func (c *Conn) doHTTP2(x *Exchange, deadline time.Time) {
	ctx, cancel := context.WithDeadline(c.client.ctx, deadline)
	defer cancel()
	if x.Failure = c.connectHTTP2(ctx); x.Failure != "" {
		return
	}
	sent := x.Sent
	var firstByte atomic.Int64 // net/http may still report it when the exchange is over
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotFirstResponseByte: func() { firstByte.Store(int64(time.Since(sent))) },
	})
	r, err := c.newRequest(ctx, x)
	if err != nil {
		x.Failure = BadAnswer // a URL of the server's that is none
		return
	}
	response, err := c.h2.RoundTrip(r)
	if after := firstByte.Load(); after > 0 {
		x.FirstByte = sent.Add(time.Duration(after))
	}
	if err != nil {
		x.Failure = failure(err, Reset)
		c.Close()
		return
	}
	x.Status = response.StatusCode
	x.Location = append(x.Location, response.Header.Get("Location")...)
	err = x.copyBody(response.Body)
	_ = response.Body.Close() // its errors are those of reading
	if err != nil {
		x.Failure = failure(err, BrokenBody)
		c.Close()
	}
}

// connectHTTP2 opens the connection if there is none, or if it has ended. It returns what was wrong.
func (c *Conn) connectHTTP2(ctx context.Context) (failed string) {
	if c.h2 != nil && c.h2.Err() != nil {
		c.Close()
	}
	if c.h2 != nil {
		return ""
	}
	conn, err := c.client.h2.NewClientConn(context.WithValue(ctx, sourceKey{}, c.source), c.scheme(), c.origin.Address)
	if err != nil {
		return connectFailure(err, c.origin.IsTLS)
	}
	c.mu.Lock()
	c.h2 = conn
	c.mu.Unlock()
	c.register()
	return ""
}

func (c *Conn) scheme() string {
	if c.origin.IsTLS {
		return "https"
	}
	return "http"
}

// connectFailure names an error of a new connection.
func connectFailure(err error, isTLS bool) string {
	var dial *net.OpError
	if isTLS && (!errors.As(err, &dial) || dial.Op != "dial") {
		return failure(err, BadTLS)
	}
	return failure(err, Unreachable)
}

func (c *Conn) newRequest(ctx context.Context, x *Exchange) (*http.Request, error) {
	target, err := url.ParseRequestURI(string(x.Target))
	if err != nil {
		return nil, err
	}
	target.Scheme, target.Host = c.scheme(), c.origin.Host
	method, body := http.MethodGet, io.Reader(nil)
	if x.Post != nil {
		method, body = http.MethodPost, bytes.NewReader(x.Post)
	}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	r.Host = cmp.Or(x.Host, c.origin.Host)
	for line := range bytes.SplitSeq(x.Header, []byte("\r\n")) {
		if name, value, found := bytes.Cut(line, []byte(": ")); found {
			r.Header.Set(string(name), string(value))
		}
	}
	if x.Length > 0 {
		r.Header.Set("Range", "bytes="+strconv.FormatInt(x.Offset, 10)+"-"+strconv.FormatInt(x.Offset+x.Length-1, 10))
	}
	return r, nil
}
