package gateway

import (
	"net/url"
	"slices"
	"strings"

	"usher/backends"
	"usher/backends/setting"
	"usher/gateway/edge"
)

// credentialsOf returns what the route counts as credentials in the given query, the path and the header. The target opens
// sessions.
func credentialsOf(t *target, req *Request, query, ticketParameter string) backends.Credentials {
	c := backends.Credentials{Query: t.route.credentialQuery(query, ticketParameter)}
	for i, name := range t.mapping.viewer.names {
		if name == channelVariable || name == restVariable {
			continue
		}
		if c.Query != "" {
			c.Query += "&"
		}
		c.Query += name + "=" + url.QueryEscape(unescape(t.match.values[i]))
	}
	for _, name := range t.route.config.CredentialHeaders {
		if value := req.Header.Get(name); value != "" {
			c.Headers = append(c.Headers, backends.Header{Name: name, Value: value})
		}
	}
	return c
}

// Passes reports whether a backend gets the field of a viewer's request.
func (r RouteConfig) Passes(f setting.ViewerField, ticketParameter string) bool {
	if f.Header != "" {
		return r.PassesHeader(f.Header)
	}
	names := []string{f.Parameter}
	if f.IsAnyCase {
		names = slices.Concat(names, r.Credentials, strings.FieldsFunc(r.viewerPath(), func(c rune) bool { return c == '{' || c == '}' }))
	}
	return slices.ContainsFunc(names, func(name string) bool {
		isDropped := f.IsNumber && isCacheBuster(name, "1") &&
			!slices.Contains(slices.Concat(r.Credentials, r.Required), name) && !strings.Contains(r.viewerPath(), "{"+name+"}")
		return !isDropped && strings.EqualFold(name, f.Parameter) && r.PassesParameter(name, ticketParameter)
	})
}

// PassesParameter reports whether a backend gets the query parameter of that name, which the path may hold instead. The other name is
// tickets.parameter, which is never a credential.
func (r RouteConfig) PassesParameter(name, ticketParameter string) bool {
	isNamed := len(r.Credentials) == 0 || slices.Contains(r.Credentials, name)
	return isNamed && name != ticketParameter && !neverCredential(name) && !slices.Contains(r.IgnoreQuery, name) ||
		strings.Contains(r.viewerPath(), "{"+name+"}")
}

// PassesHeader reports whether a backend gets the header field of that name as a viewer sends it.
func (r RouteConfig) PassesHeader(name string) bool {
	return slices.ContainsFunc(r.CredentialHeaders, func(h string) bool { return strings.EqualFold(h, name) })
}

// namesCredential reports whether the route says of a parameter that it is a credential.
func (t *target) namesCredential(name string) bool {
	c := &t.route.config
	return slices.Contains(c.Credentials, name) || slices.Contains(c.Required, name) || t.mapping.viewer.index(name) >= 0
}

// queryAtEdge returns the viewer's query, with the token that the edge reports beside it if the query has none, and shows no other
// credentials or the route wants a token. Directives are no credentials.
func (t *target) queryAtEdge(q *edge.CheckRequest, ticketParameter string) string {
	const name = "token"
	if q.Token == "" {
		return q.Query
	}
	isNamed := slices.ContainsFunc(strings.Split(q.Query, "&"), func(pair string) bool { return parameterName(pair) == name })
	hasOthers := !t.namesCredential(name) && t.route.credentialQuery(q.Query, ticketParameter) != ""
	if isNamed || hasOthers {
		return q.Query
	}
	own := name + "=" + url.QueryEscape(q.Token)
	if q.Query == "" {
		return own
	}
	return q.Query + "&" + own
}

// credentialQuery keeps the parameters that are credentials, byte for byte and in order.
func (r *route) credentialQuery(query, ticketParameter string) string {
	return filterQuery(query, func(name, value string) bool {
		switch {
		case name == ticketParameter, r.isIgnored(name, value):
			return false
		case len(r.config.Credentials) > 0:
			return slices.Contains(r.config.Credentials, name)
		default:
			return true
		}
	})
}

// isIgnored reports whether a parameter is never a credential: directives, what players report, and what only defeats
// caches.
func (r *route) isIgnored(name, value string) bool {
	return neverCredential(name) || slices.Contains(r.config.IgnoreQuery, name) ||
		isCacheBuster(name, value) && !slices.Contains(r.config.Credentials, name) && !slices.Contains(r.config.Required, name)
}

// isCacheBuster reports whether a parameter is one that players and web pages add to defeat caches.
func isCacheBuster(name, value string) bool {
	switch name {
	case "_", "_t", "cb", "nocache":
		return value != "" && strings.Trim(value, "0123456789") == ""
	}
	return false
}

// neverCredential reports whether a parameter is a directive, or what players report.
func neverCredential(name string) bool { return isDirective(name) || name == "CMCD" }

// isDirective reports whether a parameter is one of HLS's delivery directives.
func isDirective(name string) bool { return strings.HasPrefix(name, "_HLS_") }

// filterQuery keeps the pairs of a raw query that are wanted by their decoded name and raw value, byte for byte and in order.
// It drops empty pairs. If it keeps all pairs, or none, it does not allocate.
func filterQuery(query string, want func(name, value string) bool) string {
	kept, all := make([]string, 0, 8), !strings.HasSuffix(query, "&")
	for rest := query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			all = false
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if want(backends.UnescapeQuery(name), value) {
			kept = append(kept, pair)
		} else {
			all = false
		}
	}
	switch {
	case len(kept) == 0:
		return ""
	case all:
		return query
	default:
		return strings.Join(kept, "&")
	}
}

// withoutPairs returns the query without the pairs of part, each removed once.
func withoutPairs(query, part string) string {
	if part == "" {
		return query
	}
	out := strings.Split(part, "&")
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if i := slices.Index(out, pair); i >= 0 {
			out = slices.Delete(out, i, i+1)
			continue
		}
		kept = append(kept, pair)
	}
	return strings.Join(kept, "&")
}

// joinQuery returns the pairs of two raw queries, either of which may be empty.
func joinQuery(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "&" + b
}

// parameterName returns the decoded name of a raw pair.
func parameterName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	return backends.UnescapeQuery(name)
}

// parameter returns the raw value of the first parameter of that name, or "".
func parameter(query, name string) string {
	for rest := query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if n, value, _ := strings.Cut(pair, "="); n == name {
			return value
		}
	}
	return ""
}

// missing returns the first required credential that the viewer did not show, or "".
func (r *route) missing(c *backends.Credentials) string {
	for _, name := range r.config.Required {
		if hasParameter(c.Query, name) || slices.ContainsFunc(c.Headers, func(h backends.Header) bool {
			return strings.EqualFold(h.Name, name)
		}) {
			continue
		}
		return name
	}
	return ""
}

func hasParameter(query, name string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		if _, value, _ := strings.Cut(pair, "="); parameterName(pair) == name && value != "" {
			return true
		}
	}
	return false
}

// credentialsBesideTicket returns the credentials that came with a ticket, or none if a backend could not decide on them.
// What the route forwards to the origin is the origin's, even if it looks like a credential.
func (g *Gateway) credentialsBesideTicket(rc *requestContext) backends.Credentials {
	if !rc.canOpenSession() {
		return backends.Credentials{}
	}
	c := credentialsOf(&rc.target, rc.request, withoutPairs(rc.request.Query, g.forwardedQuery(rc)), g.options.Config.Tickets.Parameter)
	if rc.target.route.missing(&c) != "" {
		return backends.Credentials{}
	}
	return c
}
