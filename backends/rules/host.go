package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"

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
	if _, err := asciiHost(name); err != nil {
		return fmt.Errorf("%q: is no name that DNS can have: %w", pattern, err)
	}
	return nil
}

// asciiHost returns a name as DNS and most requests have it: "xn--…" where it has other letters.
func asciiHost(name string) (string, error) {
	if !strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		return name, nil
	}
	return idna.Lookup.ToASCII(name)
}

// asciiPatterns returns the patterns, and beside one with other letters the same as most requests have it. Config.Validate reports those
// that are none. A request's name stays as it came, since other letters than ASCII's may be mapped to these.
func asciiPatterns(patterns []string) []string {
	all := slices.Clone(patterns)
	for _, p := range patterns {
		name := strings.TrimPrefix(p, "*.")
		if ascii, err := asciiHost(name); err == nil && ascii != name {
			all = append(all, strings.TrimSuffix(p, name)+ascii)
		}
	}
	return all
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
