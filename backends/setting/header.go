package setting

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ValidateHeaderNames reports header fields that are given in two spellings, of which a request would have either. key is the setting's.
func ValidateHeaderNames(key string, headers map[string]Secret) error {
	var errs []error
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lower := strings.ToLower(name)
		if other, isKnown := first[lower]; isKnown {
			errs = append(errs, fmt.Errorf("%s.%s: is %s.%s in another spelling; keep one of them", key, name, key, other))
			continue
		}
		first[lower] = name
	}
	return errors.Join(errs...)
}

// HasHeader reports whether the header fields have one of that name, in any spelling.
func HasHeader(headers map[string]Secret, name string) bool {
	for other := range headers {
		if strings.EqualFold(other, name) {
			return true
		}
	}
	return false
}

// IsPublicHeader reports whether a header field says what a client is and accepts, so that its value is no secret. Any other may hold
// one, whatever its name.
func IsPublicHeader(name string) bool {
	return slices.Contains([]string{
		"accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "content-type", "dnt", "pragma", "user-agent",
		"x-requested-with",
	}, strings.ToLower(name))
}

// IsReservedHeader reports whether a viewer's header field must not reach a backend, which would take it for Usher's or the
// connection's own.
func IsReservedHeader(name string) bool {
	name = strings.ToLower(name)
	for _, prefix := range []string{"x-session-", "x-real-", "x-channel-", "x-forwarded-", "proxy-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return IsConnectionHeader(name) || slices.Contains([]string{"forwarded", "traceparent", "tracestate", "baggage", "accept-encoding"}, name)
}

// IsReplacedHeader reports whether no backend gets a header field as a viewer sent it: Usher or the connection sets it.
func IsReplacedHeader(name string) bool {
	return IsConnectionHeader(name) || strings.EqualFold(name, "User-Agent")
}

// IsConnectionHeader reports whether a header field belongs to one connection, or is one that an HTTP client writes itself.
func IsConnectionHeader(name string) bool {
	return slices.Contains([]string{
		"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
	}, strings.ToLower(name))
}
