package rules

import (
	"crypto/subtle"
	"strings"

	"usher/backends"
	"usher/backends/setting"
)

// tokenParameter is the query parameter of tokens: Astra's, Alta's and Flussonic's.
const tokenParameter = "token"

// hasListedToken reports whether one of the query's tokens is listed. Each of several counts, because middlewares differ
// in the one they read, and a viewer must not get past a rule by adding another.
func hasListedToken(listed []setting.Secret, query string) bool {
	for query != "" {
		piece := query
		if at := strings.IndexAny(query, "&;"); at >= 0 {
			piece, query = query[:at], query[at+1:]
		} else {
			query = ""
		}
		name, value, _ := strings.Cut(piece, "=")
		if isTokenName(name) && (isListed(listed, value) || isListed(listed, backends.UnescapeQuery(value))) {
			return true
		}
	}
	return false
}

// isTokenName reports whether a middleware may read the raw name as "token". PHP, which most of them are written in,
// drops leading spaces and ends the name at a NUL or '['.
func isTokenName(raw string) bool {
	name := strings.TrimLeft(backends.UnescapeQuery(raw), " ")
	if at := strings.IndexAny(name, "\x00["); at > 0 {
		name = name[:at]
	}
	return name == tokenParameter
}

// isListed compares the value with every token, in constant time for each.
func isListed(listed []setting.Secret, value string) bool {
	found := 0
	for _, token := range listed {
		found |= subtle.ConstantTimeCompare([]byte(token.Reveal()), []byte(value))
	}
	return found == 1
}
