package httpbackend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"usher/backends"
	"usher/backends/httpbackend/signature"
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
	// Resolver resolves the names of servers. Nil: the system's.
	Resolver *net.Resolver
}

// Client calls one backend over HTTP/1.1, which is what middlewares speak. It joins address and query, classifies errors
// by [backends.FailureKind], reads statuses by a [StatusTable], and keeps credentials out of errors. It follows redirects
// only where the status table says so. Safe for concurrent use.
type Client struct {
	name         string
	address      *url.URL
	headers      http.Header
	dialer       *dialer
	pool         *connectionPool
	signer       *signature.Signer
	statuses     *StatusTable
	ownRefusals  []ownRefusal
	alarms       *Alarms
	propagator   propagation.TextMapPropagator
	requirements answerRequirements
	brokenPage   BrokenPage
	pages        pageFinder
	window       redirectWindow
	maxHeader    setting.ByteSize
	maxBody      setting.ByteSize
	// spanAttributes describe every call.
	spanAttributes []attribute.KeyValue

	draining chan struct{}   // holds one value for each body that is read after its call
	life     context.Context // ends with Close, and those readings with it
	end      context.CancelFunc
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
	// NeedsBody makes [Client.Do] read the body of an allowing answer.
	NeedsBody bool
	// IsBodyless says that an allowing answer has no body by the contract.
	IsBodyless bool
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
	table, err := NewStatusTable(cfg.Preset, cfg.Redirects, cfg.Statuses)
	if err != nil {
		return nil, err
	}
	files, err := cfg.TLS.Open(deps.Log)
	if err != nil {
		return nil, err
	}
	requirements, err := newAnswerRequirements(cfg)
	if err != nil {
		return nil, err
	}
	connections := cmp.Or(max(deps.Connections, 0), defaultConnections)
	d := newDialer(cfg, files, deps.Resolver)
	open := func() *transport { return newTransport(cfg, d, connections) }
	life, end := context.WithCancel(context.Background())
	headers := staticHeaders(cfg.Headers, address)
	return &Client{
		name:           name,
		headers:        headers,
		address:        withoutUser(address),
		dialer:         d,
		signer:         signature.New(cfg.Signature),
		pool:           newConnectionPool(open, cfg.MaxConnectionAge, time.Now()),
		statuses:       table,
		ownRefusals:    ownRefusals(cfg, headers),
		alarms:         NewAlarms(name, deps.Log),
		propagator:     deps.Propagator,
		requirements:   requirements,
		brokenPage:     cfg.BrokenPage,
		pages:          newPageFinder(),
		maxHeader:      cfg.MaxResponseHeaderSize,
		maxBody:        cfg.MaxBodySize,
		draining:       make(chan struct{}, connections),
		life:           life,
		end:            end,
		spanAttributes: spanAttributes(address),
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

// Do makes the call and returns the answer unread, as soon as its header has arrived. Only an allowing answer waits for its
// body: for all of it where the call or the config needs it, otherwise a moment for a page. Its error is a
// [*backends.Failure], or wraps context.Canceled.
func (c *Client) Do(ctx context.Context, call Call) (Response, error) {
	ctx = withSentTrace(ctx)
	r := c.request(ctx, call)
	traced := c.startTrace(ctx, r, call)
	x, hops, err := c.send(ctx, r, call.Credentials)
	if err != nil {
		traced.finish(Response{}, nil)
		if err = c.classifyError(ctx, err); wasKept(ctx) && !isMalformed(err) {
			c.pool.onFailure(time.Now())
		}
		return Response{}, err
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.Int("http.response.status_code", x.resp.StatusCode))
	}
	a := Response{Status: x.resp.StatusCode, Header: x.resp.Header, WasRedirected: hops > 0, traced: traced}
	if traced.isEnabled() && !c.waitsForBody(a, call) {
		traced.finish(a, c.peek(ctx, x, drainTimeout, func([]byte) {})) // for an operator, who wants to see the body
		return a, nil
	}
	text, err := c.readBody(ctx, x, &a, call)
	traced.finish(a, text)
	if err != nil {
		return Response{}, c.failureOf(ctx, err)
	}
	return a, nil
}

// isAllowing reports whether the answer's status allows.
func (c *Client) isAllowing(a Response) bool {
	return c.statuses.meaningOf(a.Status).outcome == OutcomeAllow
}

// waitsForBody reports whether the decision on an answer needs more than its header.
func (c *Client) waitsForBody(a Response, call Call) bool {
	return c.isAllowing(a) && (call.NeedsBody || c.requirements.body != nil || c.mayBeBroken(a))
}

// readBody reads as much of the body as the decision needs, and leaves the rest for later. It sets what it means for the
// answer.
func (c *Client) readBody(ctx context.Context, x *exchange, a *Response, call Call) (text []byte, err error) {
	switch {
	case !c.waitsForBody(*a, call):
		c.drain(x)
		return nil, nil
	case call.NeedsBody || c.requirements.body != nil:
		text, err = c.readWhole(x)
		a.Body = text
	case c.brokenPage == BrokenPageFailure && !x.isEmpty():
		text, err = c.readStart(ctx, x)
	default:
		text = c.peek(ctx, x, pageWait(ctx), func(text []byte) { c.noteLatePage(a.Header, text) })
	}
	if !call.NeedsBody && c.mayBeBroken(*a) {
		a.page = c.pages.find(a.Header, text[:min(len(text), maxPage)])
		if call.IsBodyless {
			c.pages.readUnexpected(a, text)
		}
	}
	return text, err
}

// mayBeBroken reports whether an allowing answer may come with a broken page that somebody wants to know of.
func (c *Client) mayBeBroken(a Response) bool {
	return (c.brokenPage != BrokenPageIgnore || a.WasRedirected) && mayBePage(a.Header)
}

// readWhole returns the body, which is a failure if it is too large.
func (c *Client) readWhole(x *exchange) ([]byte, error) {
	text, err := x.readBody(int64(c.maxBody) + 1)
	if err == nil && len(text) > int(c.maxBody) {
		err = c.Malformed(fmt.Errorf("body larger than max_body_size=%v", c.maxBody))
	}
	return text, err
}

// failureOf returns the failure of an error, which may be one already.
func (c *Client) failureOf(ctx context.Context, err error) error {
	if backends.AsFailure(err) != nil {
		return err
	}
	return c.classifyError(ctx, err)
}

// Classify returns what an answer's status and headers mean. It records no alarm.
func (c *Client) Classify(a Response) Classification {
	r := c.statuses.Classify(c.name, c.address, a)
	c.readOwnRefusal(&r, a)
	return r
}

// Interpret returns what an answer means, and records its alarms. An allowing answer that does not meet the answer
// requirements is what the config says, usually a failure.
func (c *Client) Interpret(a Response) (backends.Decision, error) {
	meaning, now := c.Classify(a), time.Now()
	if c.statuses.redirects == RedirectsByTarget && c.window.isMoved(now, meaning.relayed) {
		meaning.fail(c.name, backends.AlarmAddressMoved, movedTo(a.Status, meaning.relayed))
	}
	if meaning.Failure == nil && meaning.Decision.Verdict == backends.Allowed {
		c.checkAllowed(&meaning, a)
	}
	if meaning.Failure == nil || meaning.Raised != 0 { // a failure without an alarm does not end one
		c.alarms.Record(now, meaning.Raised, meaning.Detail)
	}
	if meaning.Failure != nil {
		return backends.Decision{}, meaning.Failure
	}
	if meaning.Decision.Verdict == backends.Allowed {
		a.traced.noteYes(a.page)
	}
	return meaning.Decision, nil
}

// checkAllowed takes the yes from an answer that is not a sound one of the backend's: it does not meet the requirements,
// it is a web page behind a redirect, which is a login page, or it is a broken page.
func (c *Client) checkAllowed(r *Classification, a Response) {
	unmet := c.requirements.verify(a)
	switch {
	case unmet == nil && a.WasRedirected && a.IsWebPage():
		r.fail(c.name, backends.AlarmRedirectToItself, errLoginPage)
	case unmet == nil && c.isBroken(a.page):
		c.readPage(r, a)
	case unmet == nil:
	case c.requirements.onUnmet == UnmetRequirementFailure:
		r.fail(c.name, backends.AlarmUnexpectedAnswer, fmt.Errorf("allowed, but %w%s", unmet, webPageHint(a)))
	case a.page == pageError && c.brokenPage != BrokenPageIgnore: // an error page is no answer, so no denial either
		r.fail(c.name, backends.AlarmBrokenPage, fmt.Errorf("%w, but with %s", unmet, a.page))
	default:
		r.Decision = r.deniedDecision(a)
		r.Decision.Reason += ", " + unmet.Error()
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

// Close closes the connections that no call uses.
func (c *Client) Close() {
	c.end()
	c.pool.close()
}

// request builds the request. It is always a GET, since a viewer's HEAD opens a session like any other method.
func (c *Client) request(ctx context.Context, call Call) *http.Request {
	u := *c.address
	u.RawQuery = joinQuery(c.address.RawQuery, call.Parameters, call.Query)
	h := call.Header
	if h == nil {
		h = make(http.Header)
	}
	addCredentials(h, call.Credentials)
	for name, values := range c.headers {
		setHeader(h, name, values)
	}
	if c.propagator != nil {
		c.propagator.Inject(ctx, propagation.HeaderCarrier(h))
		trace.SpanFromContext(ctx).SetAttributes(c.spanAttributes...)
	}
	bare := http.Request{
		Method: http.MethodGet, URL: &u, Host: u.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	r := bare.WithContext(ctx)
	c.signer.Sign(r, time.Now())
	return r
}

// setHeader sets a header in the spelling of name, in place of one in another spelling. That of the agent is net/http's, which adds one
// of its own else.
func setHeader(h http.Header, name string, values []string) {
	for other := range h {
		if strings.EqualFold(other, name) {
			delete(h, other)
		}
	}
	if strings.EqualFold(name, "User-Agent") {
		name = "User-Agent"
	}
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

// spanAttributes describe every call on its span, by OpenTelemetry's conventions for HTTP clients. url.full is missing, because
// the query holds the viewer's token.
func spanAttributes(u *url.URL) []attribute.KeyValue {
	all := []attribute.KeyValue{
		attribute.String("http.request.method", http.MethodGet), attribute.String("url.scheme", u.Scheme),
		attribute.String("server.address", u.Hostname()),
	}
	port, err := strconv.Atoi(cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]))
	if err != nil {
		return all
	}
	return append(all, attribute.Int("server.port", port))
}

func withoutUser(u *url.URL) *url.URL {
	plain := *u
	plain.User = nil
	return &plain
}
