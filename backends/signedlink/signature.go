package signedlink

import (
	"crypto/md5" //nolint:gosec // nginx's module is made for MD5
	"encoding/base64"
	"net/url"
	"strings"
)

// expiryDigits are what a time has from 2001 to 2286.
const expiryDigits = 10

// hashLength is what a hash has in base64, without padding.
const hashLength = 22

// signature is what a link says, before anybody has looked whether it is true. expires is the last second as the link
// spells it, until as a number.
type signature struct {
	hash    [md5.Size]byte
	expires string
	until   int64
}

// parseSignature reads a link's two parameters. It is false for what does not look like them.
func parseSignature(hash, expires string) (signature, bool) {
	s := signature{expires: expires}
	hash = strings.TrimSuffix(hash, "==")
	if len(hash) != hashLength {
		return signature{}, false
	}
	var text [hashLength]byte
	copy(text[:], hash)
	// A newline is skipped by the decoder, and would leave the hash short.
	if n, err := base64.RawURLEncoding.Strict().Decode(s.hash[:], text[:]); err != nil || n != md5.Size {
		return signature{}, false
	}
	var ok bool
	s.until, ok = parseExpiry(expires)
	return s, ok
}

// parseExpiry reads a Unix time of ten digits.
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

// queryValue is the value of a query's first parameter of that name, as $arg_ has it in nginx: in any letters, with an
// equals sign, and raw.
func queryValue(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		n, value, found := strings.Cut(pair, "=")
		if found && len(n) == len(name) && strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}

// nginxURI is nginx's $uri of a path: unescaped, and with slashes in a row made one. It is false for a path that nginx
// would refuse or resolve.
func nginxURI(path string) (string, bool) {
	if !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
		return "", false
	}
	if !strings.Contains(path, "%") && !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path, true
	}
	uri, err := url.PathUnescape(path)
	if err != nil || strings.IndexByte(uri, 0) >= 0 {
		return "", false
	}
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
