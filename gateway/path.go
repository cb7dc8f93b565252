package gateway

import (
	"strings"

	"usher/gateway/hls"
)

// uncleanPath is the refusal of a path that is not clean.
const uncleanPath = "the path has dot segments, encoded slashes, encoded letters or control characters"

// isCleanPath reports whether a path may be routed as it is. Players send no others.
func isCleanPath(path string) bool {
	segment := 0 // start of the current segment
	for i := 0; i <= len(path); i++ {
		if i < len(path) {
			switch c := path[i]; {
			case c < ' ' || c == 0x7f || c == '\\':
				return false
			case c == '%' && i+2 < len(path):
				if !isCleanEscape(path[i+1], path[i+2]) {
					return false
				}
			case c == '%':
				return false
			}
			if path[i] != '/' {
				continue
			}
		}
		if isDotSegment(path[segment:i]) {
			return false
		}
		segment = i + 1
	}
	return true
}

// isDotSegment reports whether a segment is a dot segment, or one for origins that cut off parameters first ("..;x").
func isDotSegment(segment string) bool {
	return segment == "." || strings.HasPrefix(segment, "..") || strings.HasPrefix(segment, ".;")
}

// isCleanEscape reports whether an escape may stand in a path. Escapes of a slash, a dot, a backslash, a percent sign or a
// control character could make one path read as another. Escapes of letters, digits, - and _ would miss the cache.
func isCleanEscape(high, low byte) bool {
	h, l := hexDigit(high), hexDigit(low)
	if h < 0 || l < 0 {
		return false
	}
	switch c := byte(h<<4 | l); {
	case c < ' ' || c == 0x7f, strings.IndexByte(`/.\%-_`, c) >= 0,
		'0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'z':
		return false
	}
	return true
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

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
