package backends

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Exchange is one call as it went over the wire, for a person who looks for the mistake. Header values from the config,
// and what the configured address holds of passwords and parameters, are hidden; the viewer's own query is not.
type Exchange struct {
	Method string
	URL    string
	Header http.Header
	// Status and Answer are zero if no answer came; Took is how long that took either way.
	Status int
	Answer http.Header
	Took   time.Duration
}

type exchangeKey struct{}

// WithExchange makes the next HTTP call under the context write down what it sent and got.
func WithExchange(ctx context.Context) (context.Context, *Exchange) {
	x := new(Exchange)
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// observe notes a call that is about to be made, and returns what notes its answer. Hardly ever does anybody look.
func (c *HTTPClient) observe(ctx context.Context, r *http.Request) func(status int, answer http.Header) {
	x, _ := ctx.Value(exchangeKey{}).(*Exchange)
	if x == nil {
		return func(int, http.Header) {}
	}
	start := time.Now()
	x.Method, x.URL, x.Header = r.Method, c.hideOwn(r.URL), r.Header.Clone()
	for name := range c.static {
		if name != "User-Agent" {
			x.Header[name] = []string{Hidden}
		}
	}
	return func(status int, answer http.Header) {
		x.Took, x.Status, x.Answer = time.Since(start), status, answer.Clone()
	}
}

// hideOwn is a call's URL with the values of the parameters hidden that stand in the configured address.
func (c *HTTPClient) hideOwn(u *url.URL) string {
	shown := *u
	for name := range c.address.Query() {
		shown.RawQuery = withoutNames(shown.RawQuery, []string{canonicalName(escapeComponent(name))})
		if shown.RawQuery != "" {
			shown.RawQuery += "&"
		}
		shown.RawQuery += name + "=" + Hidden
	}
	return shown.String()
}
