package httpbackend

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/backends"
)

// maxShownBody is how much of an answer's body an Exchange keeps, in bytes.
const maxShownBody = 1 << 10

// Exchange is one call as it went over the wire, for a person who looks for the mistake. Header values from the config,
// and what the configured address holds of passwords and parameters, are hidden; the viewer's own query is not.
type Exchange struct {
	// Backend is the name of the backend that was asked.
	Backend string
	Method  string
	URL     string
	Header  http.Header
	// Status, Answer and Body, which is its beginning, are zero if no answer came; Took is how long that took either way.
	Status int
	Answer http.Header
	Body   string
	Took   time.Duration
}

// Exchanges are the calls made under one context, in the order in which they began. Safe for concurrent use.
type Exchanges struct {
	mu   sync.Mutex
	list []*Exchange
}

type exchangesKey struct{}

// WithExchanges makes the HTTP calls under the context write down what they send and get.
func WithExchanges(ctx context.Context) (context.Context, *Exchanges) {
	all := new(Exchanges)
	return context.WithValue(ctx, exchangesKey{}, all), all
}

// List is what has been written down so far.
func (e *Exchanges) List() []Exchange {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]Exchange, len(e.list))
	for i, x := range e.list {
		list[i] = *x
	}
	return slices.Clip(list)
}

// observer writes down one call. The zero value writes nothing, as nobody looks at most.
type observer struct {
	all   *Exchanges
	x     *Exchange
	start time.Time
}

// observe notes a call that is about to be made.
func (c *Client) observe(ctx context.Context, r *http.Request) observer {
	all, _ := ctx.Value(exchangesKey{}).(*Exchanges)
	if all == nil {
		return observer{}
	}
	x := &Exchange{Backend: c.name, Method: r.Method, URL: c.hideOwn(r.URL), Header: r.Header.Clone()}
	for name := range c.static {
		if name != "User-Agent" {
			x.Header[name] = []string{backends.Hidden}
		}
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.list = append(all.list, x)
	return observer{all: all, x: x, start: time.Now()}
}

// looks reports whether somebody will look at the call.
func (o observer) looks() bool { return o.x != nil }

// ended notes how the call ended: with an answer, or with the zero value and none.
func (o observer) ended(a Response) {
	if o.x == nil {
		return
	}
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	o.x.Took, o.x.Status, o.x.Answer = time.Since(o.start), a.Status, a.Header.Clone()
	o.x.Body = string(a.Body[:min(len(a.Body), maxShownBody)])
}

// hideOwn is a call's URL without the values in the query of the configured address, with which each call's begins.
func (c *Client) hideOwn(u *url.URL) string {
	shown := *u
	if rest, found := strings.CutPrefix(u.RawQuery, c.address.RawQuery); found {
		shown.RawQuery = hideValues(c.address.RawQuery) + rest
	}
	return shown.String()
}

// hideValues hides the values in a raw query, and all of a piece that has no name.
func hideValues(query string) string {
	var out strings.Builder
	for len(query) > 0 {
		var piece, separator string
		piece, separator, query = nextPiece(query)
		if name, _, named := strings.Cut(piece, "="); named {
			out.WriteString(name + "=")
		}
		if piece != "" {
			out.WriteString(backends.Hidden)
		}
		out.WriteString(separator)
	}
	return out.String()
}
