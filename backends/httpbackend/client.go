package httpbackend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"usher/backends"
	"usher/backends/setting"
)

// Deps holds what the program gives an HTTP adapter.
type Deps struct {
	// Log may be nil.
	Log *slog.Logger
	// Propagator adds the trace's headers to each call. It may be nil.
	Propagator propagation.TextMapPropagator
	// ViewerCount returns how many viewers watch on this node: on the channel, and on all. It may be nil.
	ViewerCount func(channel string) (ofChannel, all int)
	// Connections is how many idle connections are kept, usually as many as calls may be in flight. Zero keeps 288,
	// which fits the default bulkhead.
	Connections int
}

// Client calls one backend over HTTP/1.1, which is what middlewares speak. It joins address and query, classifies errors
// by [backends.FailureKind], reads statuses by a [StatusTable], and keeps credentials out of errors. It follows redirects
// only where the status table says so. Safe for concurrent use.
type Client struct {
	name         string
	address      *url.URL
	headers      http.Header
	transport    *http.Transport
	statuses     *StatusTable
	alarms       *Alarms
	propagator   propagation.TextMapPropagator
	requirements answerRequirements
	maxHeader    setting.ByteSize
	maxBody      setting.ByteSize
}

// Call describes one call to a backend.
type Call struct {
	// Query is the viewer's raw query.
	Query string
	// Parameters are added to it. Each replaces the viewer's parameters of the same name.
	Parameters []Parameter
	// Header holds the facts of the viewer's request, usually [AstraHeaders]. The call changes it.
	Header http.Header
	// Credentials are headers as the viewer sent them. They never replace one of Header or of the config.
	Credentials []backends.Header
	// NeedsBody makes [Client.Do] read the answer's body.
	NeedsBody bool
}

// NewClient returns the client of the named backend. It fails if the config is invalid or one of its files cannot be read.
func NewClient(name string, cfg Config, deps Deps) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	address, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	table, err := NewStatusTable(cfg.Preset, cfg.Statuses)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg, deps.Connections)
	if err != nil {
		return nil, err
	}
	requirements, err := newAnswerRequirements(cfg)
	if err != nil {
		return nil, err
	}
	return &Client{
		name:         name,
		headers:      staticHeaders(cfg.Headers, address),
		address:      withoutUser(address),
		transport:    transport,
		statuses:     table,
		alarms:       NewAlarms(name, deps.Log),
		propagator:   deps.Propagator,
		requirements: requirements,
		maxHeader:    cfg.MaxResponseHeaderSize,
		maxBody:      cfg.MaxBodySize,
	}, nil
}

// Decide makes the call and interprets the answer. It is all that an adapter needs whose backend answers by status and
// headers.
func (c *Client) Decide(ctx context.Context, call Call) (backends.Decision, error) {
	a, err := c.Do(ctx, call)
	if err != nil {
		return backends.Decision{}, err
	}
	return c.Interpret(a)
}

// Do makes the call and returns the answer unread. Its error is a [*backends.Failure], or wraps context.Canceled.
func (c *Client) Do(ctx context.Context, call Call) (Response, error) {
	ctx = withSentTrace(ctx)
	r := c.request(ctx, call)
	traced := c.startTrace(ctx, r)
	resp, err := c.send(ctx, r)
	if err != nil {
		traced.finish(Response{})
		return Response{}, c.classifyError(ctx, err)
	}
	defer resp.Body.Close()
	a := Response{Status: resp.StatusCode, Header: resp.Header, WasRedirected: resp.Request != r}
	// require_body concerns allowing answers alone: the body of another, which may never come, is not waited for.
	needsBody := call.NeedsBody || c.requirements.body != nil && c.statuses.meaningOf(resp.StatusCode).outcome == OutcomeAllow
	if !needsBody && !traced.isEnabled() {
		_, _ = io.CopyN(io.Discard, resp.Body, int64(c.maxBody)) // so that the connection can be reused; its error changes no answer
		return a, nil
	}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, int64(c.maxBody)+1))
	traced.finish(a)
	switch {
	case !needsBody:
		return a, nil
	case err != nil:
		return Response{}, c.classifyError(ctx, err)
	case len(a.Body) > int(c.maxBody):
		return Response{}, c.Malformed(fmt.Errorf("body larger than max_body_size=%v", c.maxBody))
	}
	return a, nil
}

// Classify returns what an answer's status and headers mean. It records no alarm.
func (c *Client) Classify(a Response) Classification {
	return c.statuses.Classify(c.name, c.address.Hostname(), a)
}

// Interpret returns what an answer means, and records its alarms. An allowing answer that does not meet the answer
// requirements is a failure.
func (c *Client) Interpret(a Response) (backends.Decision, error) {
	meaning := c.Classify(a)
	if meaning.Failure == nil && meaning.Decision.Verdict == backends.Allowed {
		c.checkAllowed(&meaning, a)
	}
	if meaning.Failure == nil || meaning.Raised != 0 { // a failure without an alarm does not end one
		c.alarms.Record(time.Now(), meaning.Raised, meaning.Detail)
	}
	if meaning.Failure != nil {
		return backends.Decision{}, meaning.Failure
	}
	return meaning.Decision, nil
}

// checkAllowed makes a failure of an allowing answer that is not the backend's: it does not meet the requirements, or it
// is a web page behind a redirect, which is a login page.
func (c *Client) checkAllowed(r *Classification, a Response) {
	err, alarm := c.requirements.verify(a), backends.AlarmUnexpectedAnswer
	if err == nil && a.WasRedirected && a.IsWebPage() {
		err, alarm = errLoginPage, backends.AlarmRedirectToItself
	}
	if err != nil {
		r.Failure = &backends.Failure{Kind: backends.FailureMalformed, Backend: c.name, Err: err}
		r.raise(alarm, err.Error())
	}
}

var errLoginPage = errors.New("redirected to a web page, for example a login page")

// Malformed returns the failure of an answer that the adapter cannot read. err must not quote the answer, which may repeat
// a token.
func (c *Client) Malformed(err error) error {
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: c.name, Err: err}
}

// Preset returns the configured preset.
func (c *Client) Preset() Preset { return c.statuses.preset }

// ContractAlarms returns the record of the backend's contract violations.
func (c *Client) ContractAlarms() *Alarms { return c.alarms }

// DisplayAddress returns the address without password and query, for logs and the admin page.
func (c *Client) DisplayAddress() string {
	return (&url.URL{Scheme: c.address.Scheme, Host: c.address.Host, Path: c.address.Path}).String()
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// request builds the request. It is always a GET, since a viewer's HEAD opens a session like any other method.
func (c *Client) request(ctx context.Context, call Call) *http.Request {
	u := *c.address
	u.RawQuery = joinQuery(c.address.RawQuery, call.Parameters, call.Query)
	h := make(http.Header, len(call.Header)+len(c.headers)+len(call.Credentials)+2)
	addCredentials(h, call.Credentials)
	for name, values := range call.Header {
		setHeader(h, name, values)
	}
	for name, values := range c.headers {
		setHeader(h, name, values)
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

// setHeader sets a header in the spelling of name, in place of a viewer's in canonical spelling.
func setHeader(h http.Header, name string, values []string) {
	h.Del(name)
	h[name] = values
}

// staticHeaders returns the headers of every call: the configured ones, and the address's user and password.
func staticHeaders(configured map[string]setting.Secret, address *url.URL) http.Header {
	h := http.Header{"User-Agent": {"usher"}}
	if user := address.User; user != nil {
		password, _ := user.Password()
		r := http.Request{Header: h}
		r.SetBasicAuth(user.Username(), password)
	}
	for name, value := range configured {
		setHeader(h, name, []string{value.Reveal()})
	}
	return h
}

func withoutUser(u *url.URL) *url.URL {
	plain := *u
	plain.User = nil
	return &plain
}
