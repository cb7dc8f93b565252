package gateway

import (
	"strings"

	"usher/gateway/hls"
)

// ticketInPath returns the ticket in front of the path, and the rest of the path.
func ticketInPath(path string) (ticket, rest string, found bool) {
	after, found := strings.CutPrefix(path, "/~")
	if !found {
		if after, found = cutPrefixFold(path, "/%7e"); !found {
			return "", path, false
		}
	}
	slash := strings.IndexByte(after, '/')
	if slash < 0 {
		return after, "/", true
	}
	return after[:slash], after[slash:], true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// ticketInQueryOrCookie returns the ticket in the query or the cookie, whichever the route uses, or "".
func ticketInQueryOrCookie(t *target, req *Request, c *TicketsConfig) string {
	switch t.route.config.TicketIn {
	case hls.TicketInQuery:
		return parameter(req.Query, c.Parameter)
	case hls.TicketInCookie:
		for _, field := range req.Header.Values("Cookie") {
			if ticket := cookieValue(field, c.CookieName); ticket != "" {
				return ticket
			}
		}
	}
	return ""
}

// cookieValue returns the value of a cookie in a Cookie field, or "".
func cookieValue(field, name string) string {
	for pair := range strings.SplitSeq(field, ";") {
		if n, value, found := strings.Cut(strings.TrimSpace(pair), "="); found && n == name {
			return value
		}
	}
	return ""
}
