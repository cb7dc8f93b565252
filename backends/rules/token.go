package rules

import (
	"crypto/subtle"
	"net/url"
	"strings"

	"usher/backends"
)

// tokenParameter is the query parameter that tokens are given in: Astra's, Alta's and Flussonic's.
const tokenParameter = "token"

// hasListedToken reports whether one of the query's tokens is one of those listed. Each of several in a query counts,
// because which of them a middleware takes differs, and a viewer must not get past a rule by adding another.
func hasListedToken(listed []backends.Secret, query string) bool {
	for query != "" {
		piece := query
		if at := strings.IndexAny(query, "&;"); at >= 0 {
			piece, query = query[:at], query[at+1:]
		} else {
			query = ""
		}
		name, value, _ := strings.Cut(piece, "=")
		if isTokenName(name) && (isListed(listed, value) || isListed(listed, unescape(value))) {
			return true
		}
	}
	return false
}

// isTokenName reports whether some middleware may take the raw name for "token". PHP, which most of them are written
// in, drops spaces in front and ends the name at a NUL or '['.
func isTokenName(raw string) bool {
	name := strings.TrimLeft(unescape(raw), " ")
	if at := strings.IndexAny(name, "\x00["); at > 0 {
		name = name[:at]
	}
	return name == tokenParameter
}

func unescape(raw string) string {
	if !strings.ContainsAny(raw, "%+") {
		return raw
	}
	text, err := url.QueryUnescape(raw)
	if err != nil {
		return raw
	}
	return text
}

// isListed compares with all, each in a time that does not tell how much of it was right.
func isListed(listed []backends.Secret, value string) bool {
	found := 0
	for _, token := range listed {
		found |= subtle.ConstantTimeCompare([]byte(token.Reveal()), []byte(value))
	}
	return found == 1
}
