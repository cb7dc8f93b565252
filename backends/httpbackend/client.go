package httpbackend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"usher/backends"

	"go.opentelemetry.io/otel/propagation"
)

// maxRedirects is how many redirects are followed, where a preset follows them at all: as many as Go's own client.
const maxRedirects = 10

// Deps is what an HTTP adapter is given by the program that it runs in.
type Deps struct {
	// Log may be nil.
	Log *slog.Logger
	// Propagator writes the trace into each call; nil writes nothing.
	Propagator propagation.TextMapPropagator
	// Audience counts the viewers who are watching on this node: those of a channel, and all. It may be nil.
	Audience func(channel string) (ofChannel, all int)
	// Connections is how many idle connections are kept, usually as many calls as may be in flight. Zero keeps 288,
	// which is that for the default bulkhead.
	Connections int
}

// Client asks one backend over HTTP/1.1, which is what middlewares speak. It joins addresses and queries, sorts
// what goes wrong into the kinds of [Failure], reads statuses, and lets no credential into an error. Redirects are
// followed only where the status table says so. Safe for concurrent use.
type Client struct {
	name       string
	address    *url.URL
	static     http.Header
	transport  *http.Transport
	table      *StatusTable
	watch      *Alarms
	propagator propagation.TextMapPropagator
	required   required
	maxHeader  int64
	maxBody    int64
}

// Call is one call: the viewer's query and headers, what we add to them, and whether the answer's body is of
// interest.
type Call struct {
	// Query is the viewer's, raw. Ours replaces parameters of the same name.
	Query string
	Ours  []Parameter
	// Header is what we say of the viewer, usually AstraHeaders. It is changed by the call. Credentials are the
	// viewer's own, and never override ours.
	Header      http.Header
	Credentials []backends.Header
	// Body asks for the answer's body.
	Body bool
}

// NewClient makes the client of the named backend. It fails if the config is wrong or a file of it cannot be read.
func NewClient(name string, cfg Config, parts Deps) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	address, err := parseAddress(cfg.URL)
	if err != nil {
		return nil, err
	}
	table, err := NewStatusTable(cfg.Preset, cfg.Statuses)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg, parts.Connections)
	if err != nil {
		return nil, err
	}
	must, err := newRequired(cfg)
	if err != nil {
		return nil, err
	}
	return &Client{
		required:   must,
		name:       name,
		static:     staticHeaders(cfg.Headers, address),
		address:    withoutUser(address),
		transport:  transport,
		table:      table,
		watch:      NewAlarms(name, parts.Log),
		propagator: parts.Propagator,
		maxHeader:  int64(cfg.MaxResponseHeaderSize),
		maxBody:    int64(cfg.MaxBodySize),
	}, nil
}

// Decide asks, and reads the answer by the status table: all that an adapter needs whose backend answers with statuses
// and headers.
func (c *Client) Decide(ctx context.Context, q Call) (backends.Decision, error) {
	a, err := c.Ask(ctx, q)
	if err != nil {
		return backends.Decision{}, err
	}
	return c.Read(a)
}

// Ask sends the question and returns the answer as it came. Its error is a *Failure, or wraps context.Canceled.
func (c *Client) Ask(ctx context.Context, q Call) (Response, error) {
	r := c.request(ctx, q)
	watched := c.observe(ctx, r)
	resp, err := c.send(ctx, r)
	if err != nil {
		watched.ended(Response{})
		return Response{}, c.failure(ctx, err)
	}
	defer resp.Body.Close()
	a := Response{Status: resp.StatusCode, Header: resp.Header, Followed: resp.Request != r}
	// Of a no nothing more is required, so its body, which may never come, is not waited for.
	wanted := q.Body || c.required.body != nil && c.table.meaningOf(resp.StatusCode).outcome == OutcomeAllow
	if !wanted && !watched.looks() {
		_, _ = io.CopyN(io.Discard, resp.Body, c.maxBody) // so that the connection can be used again; the answer stands
		return a, nil
	}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, c.maxBody+1))
	watched.ended(a)
	switch {
	case !wanted:
		return a, nil
	case err != nil:
		return Response{}, c.failure(ctx, err)
	case int64(len(a.Body)) > c.maxBody:
		return Response{}, c.malformed(fmt.Errorf("body larger than max_body_size=%d", c.maxBody))
	}
	return a, nil
}

// Classify says what an answer's status and headers mean, and notes nothing.
func (c *Client) Classify(a Response) Reading {
	return c.table.Classify(c.name, c.address.Hostname(), a)
}

// Read says what an answer means, and notes its alarms. A yes without what the config requires of one is a failure.
func (c *Client) Read(a Response) (backends.Decision, error) {
	reading := c.Classify(a)
	if reading.Failure == nil && reading.Decision.Verdict == backends.Allowed {
		c.doubt(&reading, a)
	}
	if reading.Failure == nil || reading.Alarms != 0 { // another failure says nothing of whether an alarm is over
		c.watch.Record(time.Now(), reading.Alarms, reading.Detail)
	}
	if reading.Failure != nil {
		return backends.Decision{}, reading.Failure
	}
	return reading.Decision, nil
}

// doubt makes a failure of a yes that cannot be the backend's: one without what the config requires, and a web page to
// which we were redirected, which is where one logs in.
func (c *Client) doubt(r *Reading, a Response) {
	err, alarm := c.required.check(a), backends.AlarmUnexpectedAnswer
	if err == nil && a.Followed && a.IsWebPage() {
		err, alarm = errLoginPage, backends.AlarmRedirectToItself
	}
	if err != nil {
		r.Failure = &backends.Failure{Kind: backends.FailureMalformed, Backend: c.name, Err: err}
		r.alarm(alarm, err.Error())
	}
}

var errLoginPage = errors.New("redirected to a web page, such as a login")

// Malformed is the failure of an answer that the adapter cannot read. err must not hold what the backend sent: it may
// repeat a token.
func (c *Client) Malformed(err error) error { return c.malformed(err) }

// Preset is whose way of reading answers holds.
func (c *Client) Preset() Preset { return c.table.preset }

// Watch is where the alarms are counted.
func (c *Client) Watch() *Alarms { return c.watch }

// Shown is the address without password and query, for logs and the admin page.
func (c *Client) Shown() string {
	return (&url.URL{Scheme: c.address.Scheme, Host: c.address.Host, Path: c.address.Path}).String()
}

// Close drops idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// request builds the call. It always is a GET: a viewer's HEAD opens a session like any other.
func (c *Client) request(ctx context.Context, q Call) *http.Request {
	u := *c.address
	u.RawQuery = joinQuery(c.address.RawQuery, q.Ours, q.Query)
	h := make(http.Header, len(q.Header)+len(c.static)+len(q.Credentials)+2)
	addCredentials(h, q.Credentials)
	for name, values := range q.Header {
		override(h, name, values)
	}
	for name, values := range c.static {
		override(h, name, values)
	}
	if c.propagator != nil {
		c.propagator.Inject(ctx, propagation.HeaderCarrier(h))
	}
	r := &http.Request{
		Method: http.MethodGet, URL: &u, Host: u.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	return r.WithContext(ctx)
}

// override sets a header spelled as we want it, over a viewer's in canonical spelling.
func override(h http.Header, name string, values []string) {
	h.Del(name)
	h[name] = values
}

// send makes the call, and follows redirects where the table says so.
func (c *Client) send(ctx context.Context, r *http.Request) (*http.Response, error) {
	for hops := 0; ; hops++ {
		resp, err := c.transport.RoundTrip(r)
		if err != nil || !c.table.Follows(resp.StatusCode) {
			return resp, err
		}
		next := nextHop(r, resp)
		if next == nil {
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, c.maxBody)
		_ = resp.Body.Close()
		if hops == maxRedirects {
			return nil, errTooManyRedirects
		}
		r = c.follow(ctx, r, next)
	}
}

var errTooManyRedirects = errors.New("more than 10 redirects")

// nextHop is where a redirect leads, or nil if that is nowhere to ask.
func nextHop(r *http.Request, resp *http.Response) *url.URL {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil
	}
	next, err := r.URL.Parse(location)
	if err != nil || next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" {
		return nil
	}
	next.RawQuery = escapeStray(next.RawQuery)
	return next
}

// follow is the same question at another place. What the config says to tell the backend, and what the viewer proves
// himself with in headers, is not for other hosts.
func (c *Client) follow(ctx context.Context, r *http.Request, next *url.URL) *http.Request {
	to := r.Clone(ctx)
	to.URL, to.Host = withoutUser(next), next.Host
	if strings.EqualFold(next.Host, c.address.Host) && next.Scheme == c.address.Scheme {
		return to
	}
	for name := range c.static {
		if name != "User-Agent" {
			delete(to.Header, name)
		}
	}
	to.Header.Del("Authorization")
	to.Header.Del("Cookie")
	return to
}

func staticHeaders(configured map[string]backends.Secret, address *url.URL) http.Header {
	h := http.Header{"User-Agent": {"usher"}}
	if user := address.User; user != nil {
		password, _ := user.Password()
		r := http.Request{Header: h}
		r.SetBasicAuth(user.Username(), password)
	}
	for name, value := range configured {
		override(h, name, []string{value.Reveal()})
	}
	return h
}

func withoutUser(u *url.URL) *url.URL {
	plain := *u
	plain.User = nil
	return &plain
}
