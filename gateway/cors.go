package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"usher/gateway/hls"
	"usher/gateway/upstream"
)

// preflightAge is how long a browser may cache a preflight, in seconds: a day. Browsers cap it.
const preflightAge = "86400"

// setCORS lets pages of listed origins read the response, refusals included: a player that cannot read a 403 takes it for
// a broken network and retries forever, and one that cannot read a 503 gives up. A page that is listed by name may send its
// requests with credentials, as some players always do.
func (g *Gateway) setCORS(ticketIn hls.TicketTransport, req *Request, resp *Response) {
	from := req.Header.Get("Origin")
	if from == "" && ticketIn != hls.TicketInNone { // only with TicketInNone may a cache in front share a response
		return
	}
	allowed := g.options.Config.CORS.AllowedOrigins
	isAny := slices.Contains(allowed, "*")
	switch {
	case from != "" && from != "*" && slices.Contains(allowed, from):
		resp.Set("Access-Control-Allow-Origin", from)
		resp.Set("Vary", "Origin")
		resp.Set("Access-Control-Allow-Credentials", "true")
	case isAny:
		resp.Set("Access-Control-Allow-Origin", "*")
		if len(allowed) > 1 {
			resp.Set("Vary", "Origin")
		}
	default:
		resp.Set("Vary", "Origin")
		return
	}
	if req.Method != http.MethodOptions {
		resp.Set("Access-Control-Expose-Headers", "Content-Length, Content-Range, Age")
	}
}

// answerPreflight answers OPTIONS without looking at tickets or credentials.
func answerPreflight(req *Request, resp *Response) {
	resp.Status = http.StatusNoContent
	resp.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
	resp.Set("Access-Control-Allow-Headers", req.Header.Get("Access-Control-Request-Headers"))
	resp.Set("Access-Control-Max-Age", preflightAge)
	resp.Set("Allow", "GET, HEAD, OPTIONS")
}

func (c Config) validateCORS() error {
	var errs []error
	for i, o := range c.CORS.AllowedOrigins {
		sent, want := sentByBrowsers(o), `"*" or an origin such as "https://tv.example.com"`
		if o == "*" || o == sent {
			continue
		}
		if sent != "" {
			want = strconv.Quote(sent)
		}
		errs = append(errs, fmt.Errorf("cors.allowed_origins[%d]: %q: want %s, as browsers send it: one host, in lower case, "+
			"without a path and the usual port", i, o, want))
	}
	return errors.Join(errs...)
}

// sentByBrowsers returns the Origin of a request that means a text, with which it is compared letter by letter, or "". The scheme
// may be an app's.
func sentByBrowsers(origin string) string {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return ""
	}
	host := u.Host
	name, err := idna.Lookup.ToASCII(u.Hostname())
	if err == nil { // an address fails, and a name with _, which stay as they are
		host = strings.Replace(host, u.Hostname(), name, 1)
	}
	scheme := "http"
	if u.Scheme == "https" || u.Scheme != "http" && u.Port() == "80" { // which is an app's usual port no more than any other
		scheme = "https"
	}
	sent, isHost := strings.CutPrefix(upstream.Canonical(scheme, host), scheme)
	if !isHost {
		return ""
	}
	if plain, isDotted := strings.CutSuffix(name, "."); isDotted { // browsers send the dot of a name that ends in one
		sent = strings.Replace(sent, plain, name, 1)
	}
	return u.Scheme + sent
}
