package gateway

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestClientOf_Address(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	type fields = map[string][]string
	cases := map[string]struct {
		peer   string
		header fields
		want   string
	}{
		"no proxy":                          {"192.0.2.1", nil, "192.0.2.1"},
		"a proxy that says nothing":         {"10.0.0.1", nil, "10.0.0.1"},
		"a proxy's word":                    {"10.0.0.1", fields{"X-Forwarded-For": {"192.0.2.7"}}, "192.0.2.7"},
		"a viewer's own word":               {"192.0.2.1", fields{"X-Forwarded-For": {"198.51.100.9"}}, "192.0.2.1"},
		"a viewer's word before a proxy's":  {"10.0.0.1", fields{"X-Forwarded-For": {"198.51.100.9, 192.0.2.7"}}, "192.0.2.7"},
		"a field that the viewer sent":      {"10.0.0.1", fields{"X-Forwarded-For": {"198.51.100.9", "192.0.2.7"}}, "192.0.2.7"},
		"several proxies":                   {"10.0.0.1", fields{"X-Forwarded-For": {"192.0.2.7, 10.0.0.3, 10.0.0.2"}}, "192.0.2.7"},
		"several proxies in several fields": {"10.0.0.1", fields{"X-Forwarded-For": {"6.6.6.6, 192.0.2.7", "10.0.0.3,10.0.0.2"}}, "192.0.2.7"},
		"only proxies":                      {"10.0.0.1", fields{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, "10.0.0.3"},
		"garbage before a proxy":            {"10.0.0.1", fields{"X-Forwarded-For": {"192.0.2.7, unknown, 10.0.0.2"}}, "10.0.0.2"},
		"nothing but garbage":               {"10.0.0.1", fields{"X-Forwarded-For": {"' OR 1=1 --"}}, "10.0.0.1"},
		"an empty field":                    {"10.0.0.1", fields{"X-Forwarded-For": {""}}, "10.0.0.1"},
		"an empty field behind a full one":  {"10.0.0.1", fields{"X-Forwarded-For": {"192.0.2.7", ""}}, "192.0.2.7"},
		"a trailing comma":                  {"10.0.0.1", fields{"X-Forwarded-For": {"192.0.2.7,"}}, "10.0.0.1"},
		"a port behind the address":         {"10.0.0.1", fields{"X-Forwarded-For": {"192.0.2.7:51234"}}, "192.0.2.7"},
		"IPv6":                              {"2001:db8::1", fields{"X-Forwarded-For": {"2001:db9::7"}}, "2001:db9::7"},
		"IPv6 with a port":                  {"2001:db8::1", fields{"X-Forwarded-For": {"[2001:db9::7]:443"}}, "2001:db9::7"},
		"IPv4 written as IPv6":              {"10.0.0.1", fields{"X-Forwarded-For": {"::ffff:192.0.2.7"}}, "192.0.2.7"},
		"a proxy written as IPv6":           {"10.0.0.1", fields{"X-Forwarded-For": {"192.0.2.7, ::ffff:10.0.0.2"}}, "192.0.2.7"},
		"another header":                    {"10.0.0.1", fields{"X-Real-Ip": {"192.0.2.7"}, "Forwarded": {"for=192.0.2.7"}}, "10.0.0.1"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := Request{Peer: netip.MustParseAddr(tc.peer), Header: http.Header(tc.header)}
			if got := clientOf(&v, trusted).address.String(); got != tc.want {
				t.Errorf("address: got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestClientOf_NoProxyTrustedByDefault(t *testing.T) {
	t.Parallel()
	v := Request{
		Peer: netip.MustParseAddr("127.0.0.1"), Scheme: "http", Host: "tv.example.com",
		Header: http.Header{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"other"}},
	}
	want := client{address: v.Peer, scheme: "http", host: "tv.example.com"}
	if got := clientOf(&v, DefaultConfig().TrustedProxies); got != want {
		t.Errorf("client: got %v, want %v", got, want)
	}
}

func TestClientOf_SchemeAndHost(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	cases := map[string]struct {
		peer, proto, host      string
		wantScheme, wantedHost string
	}{
		"from a proxy":         {"10.0.0.1", "https", "tv.example.com", "https", "tv.example.com"},
		"in capitals":          {"10.0.0.1", "HTTPS", "", "https", "node7"},
		"by several proxies":   {"10.0.0.1", "https, http", "", "https", "node7"},
		"from a viewer":        {"192.0.2.1", "https", "tv.example.com", "http", "node7"},
		"nothing from a proxy": {"10.0.0.1", "", "", "http", "node7"},
		"an odd scheme":        {"10.0.0.1", "javascript", "", "http", "node7"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			h.Set("X-Forwarded-Proto", tc.proto)
			h.Set("X-Forwarded-Host", tc.host)
			v := Request{Peer: netip.MustParseAddr(tc.peer), Scheme: "http", Host: "node7", Header: h}
			if got := clientOf(&v, trusted); got.scheme != tc.wantScheme || got.host != tc.wantedHost {
				t.Errorf("client: got %s %s, want %s %s", got.scheme, got.host, tc.wantScheme, tc.wantedHost)
			}
		})
	}
}
