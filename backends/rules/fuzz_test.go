package rules

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"usher/backends/setting"
)

// A listed token that Go finds in the query is found, whatever surrounds it, and an absent one is not.
func FuzzHasListedToken(f *testing.F) {
	for _, seed := range [][2]string{
		{"token=123", "123"}, {"a=b&token=1%2B3", "1+3"}, {"%74oken=x;token=y", "y"}, {"token[]=z", "z"}, {"&&;=", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, query, token string) {
		if token == "" {
			return // the config rejects it
		}
		found := hasListedToken([]setting.Secret{"other", setting.Secret(token)}, query)
		values, _ := url.ParseQuery(query)
		for _, value := range values["token"] {
			if value == token && !found {
				t.Errorf("%q is in %q, but was not found", token, query)
			}
		}
		if found && !strings.Contains(query, token) && !strings.ContainsAny(query, "%+") {
			t.Errorf("%q is not in %q, but was found", token, query)
		}
		if joined := query + "&token=" + url.QueryEscape(token); !hasListedToken([]setting.Secret{setting.Secret(token)}, joined) {
			t.Errorf("%q was not found in %q", token, joined)
		}
	})
}

// FuzzMatchesHost requires that no header value panics, and that only the host's own name matches.
func FuzzMatchesHost(f *testing.F) {
	for _, seed := range []string{
		"tv.example.com", "https://tv.example.com:1/x", "[::1]:80", "[", "//", "a@b@c", "http://\\", ".example.com", ":::",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		for _, name := range []string{hostWithoutPort(header), refererHost(header)} {
			if matchesHost([]string{"tv.example.com", "*.example.net"}, name) &&
				!strings.Contains(strings.ToLower(header), "tv.example.com") && !strings.Contains(strings.ToLower(header), ".example.net") {
				t.Errorf("%q matched a configured host as %q", header, name)
			}
		}
	})
}

func FuzzParsePrefix(f *testing.F) {
	for _, seed := range []string{
		"192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "::ffff:192.0.2.0/120", "::ffff:0:0/64", "fe80::1%eth0", "/", "1/2/3",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		prefix, err := parsePrefix(s)
		if err != nil {
			return
		}
		if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
			t.Errorf("%q was read as %s", s, prefix)
		}
		if !containsAddress([]netip.Prefix{prefix}, prefix.Addr()) {
			t.Errorf("%q does not hold its own first address", s)
		}
	})
}
