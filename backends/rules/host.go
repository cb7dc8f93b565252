package rules

import (
	"fmt"
	"net/netip"
	"strings"

	"usher/backends/setting"
)

// validateHost rejects a pattern that matches no host name.
func validateHost(pattern string) error {
	name := strings.TrimPrefix(pattern, "*.")
	if pattern == "" {
		return errEmpty
	}
	if _, err := netip.ParseAddr(name); err == nil && name == pattern {
		return nil
	}
	if name == "" || strings.ContainsAny(name, "*/:@?#\\ ") || name != strings.Trim(name, ".") {
		return fmt.Errorf("%q: want a host such as tv.example.com or *.example.com, without scheme, port and path", pattern)
	}
	return nil
}

// hostWithoutPort returns the name in a Host header: without port, brackets, and the trailing dot of a full name.
func hostWithoutPort(host string) string {
	if rest, ok := strings.CutPrefix(host, "["); ok {
		host, _, _ = strings.Cut(rest, "]")
		return host
	}
	if at := strings.IndexByte(host, ':'); at >= 0 && strings.IndexByte(host[at+1:], ':') < 0 {
		host = host[:at]
	}
	return strings.TrimSuffix(host, ".")
}

// refererHost returns the host in a Referer header, which some players send without a scheme.
func refererHost(referer string) string {
	if _, rest, ok := strings.Cut(referer, "://"); ok {
		referer = rest
	}
	if end := strings.IndexAny(referer, `/\?#`); end >= 0 {
		referer = referer[:end]
	}
	if at := strings.LastIndexByte(referer, '@'); at >= 0 {
		referer = referer[at+1:]
	}
	return hostWithoutPort(referer)
}

// matchesHost reports whether a pattern matches the name. An empty name matches none.
func matchesHost(patterns []string, name string) bool {
	if name == "" {
		return false
	}
	for _, p := range patterns {
		if suffix, ok := strings.CutPrefix(p, "*"); ok {
			if cut := len(name) - len(suffix); cut > 0 && setting.MatchesWildcardFold(suffix, name[cut:]) {
				return true
			}
		} else if setting.MatchesWildcardFold(p, name) {
			return true
		}
	}
	return false
}
