package signedlink

import (
	"crypto/md5" //nolint:gosec // nginx's module is made for MD5
	"encoding/base64"
	"net/url"
	"strings"
)

// expiryDigits is the number of digits of a Unix time from 2001 to 2286.
const expiryDigits = 10

// hashLength is the length of a hash in base64, without padding.
const hashLength = 22

// signature is the parsed signature of a link, not yet verified.
type signature struct {
	hash    [md5.Size]byte
	expires string // the last second, as the link spells it
	until   int64  // expires as a number
}

// parseSignature parses a link's two parameters. It returns false if they have another format.
func parseSignature(hash, expires string) (signature, bool) {
	s := signature{expires: expires}
	hash = strings.TrimSuffix(hash, "==")
	if len(hash) != hashLength {
		return signature{}, false
	}
	var text [hashLength]byte
	copy(text[:], hash)
	// The decoder skips a newline, which would leave the hash short.
	if n, err := base64.RawURLEncoding.Strict().Decode(s.hash[:], text[:]); err != nil || n != md5.Size {
		return signature{}, false
	}
	var ok bool
	s.until, ok = parseExpiry(expires)
	return s, ok
}

// parseExpiry parses a Unix time of ten digits.
func parseExpiry(text string) (int64, bool) {
	if len(text) != expiryDigits || text[0] == '0' {
		return 0, false
	}
	var n int64
	for i := range len(text) {
		digit := text[i] - '0'
		if digit > 9 {
			return 0, false
		}
		n = 10*n + int64(digit)
	}
	return n, true
}

// queryValue returns the value of the query's first parameter of that name, as nginx's $arg_ does: in any case, with an
// equals sign, and raw.
func queryValue(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, found := strings.Cut(pair, "=")
		if found && len(key) == len(name) && strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// nginxURI returns nginx's $uri of a path: unescaped, with repeated slashes merged. It returns false for a path that
// nginx would reject or resolve.
func nginxURI(path string) (string, bool) {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") {
		return "", false
	}
	if !strings.Contains(path, "%") && !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path, true
	}
	uri, err := url.PathUnescape(path)
	if err != nil || strings.Contains(uri, "\x00") {
		return "", false
	}
	return mergeSlashes(uri)
}

// mergeSlashes merges repeated slashes. It returns false for a path with dot segments.
func mergeSlashes(uri string) (string, bool) {
	var out strings.Builder
	out.Grow(len(uri))
	for rest := uri[1:]; ; {
		segment, after, more := strings.Cut(rest, "/")
		switch {
		case segment == "." || segment == "..":
			return "", false
		case segment != "":
			out.WriteByte('/')
			out.WriteString(segment)
		case !more:
			out.WriteByte('/')
		}
		if rest = after; !more {
			return out.String(), true
		}
	}
}
