package upstream

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func mustHosts(t testing.TB, own, others []string, c Config) *Hosts {
	t.Helper()
	parse := func(texts []string) (urls []*url.URL) {
		for _, text := range texts {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			urls = append(urls, u)
		}
		return urls
	}
	h, err := NewHosts(parse(own), parse(others), c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func testHosts(t testing.TB) *Hosts {
	return mustHosts(t,
		[]string{"http://10.0.0.5:8000/live", "https://origin.example.com", "http://[2001:db8::5]:80", "http://[::ffff:192.0.2.9]:80"},
		[]string{"http://other.example.com:8000"},
		Config{
			RedirectHosts: []RedirectHost{
				{Host: "edge.example.com"},
				{Host: "PORT.example.com:8080"},
				{Host: "any.example.com:*"},
				{Host: "*.cdn.example.com"},
				{Host: "keys.cdn.example.com", SendHeaders: true},
				{Host: "[2001:db8::7]:81"},
			},
			PublicNames: []string{"tv.example.com", "*.tv.example.net:8443"},
		})
}

func TestHosts_Match(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url  string
		want Match
	}{
		"an address":                             {"http://10.0.0.5:8000", Match{Kind: Own, SendsHeaders: true}},
		"an address by another scheme":           {"https://10.0.0.5:8000", Match{}},
		"an address by another port":             {"http://10.0.0.5", Match{}},
		"a fallback":                             {"https://origin.example.com", Match{Kind: Own, Address: 1, SendsHeaders: true}},
		"with the scheme's own port":             {"HTTPS://Origin.Example.COM:443", Match{Kind: Own, Address: 1, SendsHeaders: true}},
		"with the root's dot":                    {"https://origin.example.com.:443", Match{Kind: Own, Address: 1, SendsHeaders: true}},
		"with an empty port":                     {"https://origin.example.com:", Match{Kind: Own, Address: 1, SendsHeaders: true}},
		"IPv6 with the scheme's own port":        {"http://[2001:db8::5]:80", Match{Kind: Own, Address: 2, SendsHeaders: true}},
		"IPv6 without port":                      {"http://[2001:db8::5]", Match{Kind: Own, Address: 2, SendsHeaders: true}},
		"IPv6 spelled at length":                 {"http://[2001:DB8:0:0:0:0:0:5]", Match{Kind: Own, Address: 2, SendsHeaders: true}},
		"IPv6 without brackets":                  {"http://2001:db8::5", Match{}},
		"IPv4 that is written as mapped":         {"http://192.0.2.9", Match{Kind: Own, Address: 3, SendsHeaders: true}},
		"another origin":                         {"http://other.example.com:8000", Match{Kind: Listed}},
		"a public name":                          {"https://tv.example.com", Match{Kind: Own, IsPublicName: true, SendsHeaders: true}},
		"a public name at another port":          {"https://tv.example.com:8443", Match{}},
		"a public name by wildcard":              {"https://a.tv.example.net:8443", Match{Kind: Own, IsPublicName: true, SendsHeaders: true}},
		"a redirect host, HTTP":                  {"http://edge.example.com", Match{Kind: Listed}},
		"a redirect host, HTTPS":                 {"https://edge.example.com", Match{Kind: Listed}},
		"a redirect host at the other's port":    {"http://edge.example.com:443", Match{}},
		"a redirect host at another port":        {"http://edge.example.com:8080", Match{}},
		"a redirect host with a port":            {"http://port.example.com:8080", Match{Kind: Listed}},
		"a redirect host without its port":       {"http://port.example.com", Match{}},
		"a redirect host with any port":          {"http://any.example.com:1", Match{Kind: Listed}},
		"a redirect host that is an address":     {"http://[2001:db8:0::7]:81", Match{Kind: Listed}},
		"below a wildcard":                       {"http://a.cdn.example.com", Match{Kind: Listed}},
		"deeper below a wildcard":                {"http://b.a.cdn.example.com", Match{Kind: Listed}},
		"the name of a wildcard itself":          {"http://cdn.example.com", Match{}},
		"a name that ends in one of a wildcard":  {"http://xcdn.example.com", Match{}},
		"an empty label below a wildcard":        {"http://.cdn.example.com", Match{}},
		"two entries, one of which gets headers": {"http://keys.cdn.example.com", Match{Kind: Listed, SendsHeaders: true}},
		"a longer name":                          {"http://edge.example.com.evil.com", Match{}},
		"a name in another":                      {"http://evil.com/edge.example.com", Match{}},
		"a user that looks like a host":          {"http://edge.example.com@evil.com", Match{}},
		"another scheme":                         {"ftp://edge.example.com", Match{}},
		"a port out of range":                    {"http://any.example.com:65536", Match{}},
		"no port at all":                         {"http://any.example.com:0", Match{}},
		"a letter beyond ASCII":                  {"http://ëdge.example.com", Match{}},
		"a full-width dot":                       {"http://edge。example.com", Match{}},
		"no host":                                {"http://", Match{}},
		"a dot alone":                            {"http://.", Match{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scheme, host, _ := strings.Cut(test.url, "://")
			if got := testHosts(t).Match(scheme, host); got != test.want {
				t.Errorf("%s: got %+v, want %+v", test.url, got, test.want)
			}
		})
	}
}

func TestHosts_Match_DoesNotAllocate(t *testing.T) {
	h := testHosts(t)
	for _, host := range []string{"a.cdn.example.com:8080", "any.example.com:8080", "10.0.0.5:8000", "[2001:db8::5]"} {
		if n := testing.AllocsPerRun(100, func() { h.Match("https", host) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", host, n)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, test := range [][3]string{
		{"HTTP", "Edge.Example.com.:80", "http://edge.example.com"},
		{"https", "edge.example.com:80", "https://edge.example.com:80"},
		{"http", "[2001:DB8:0::1]:80", "http://[2001:db8::1]"},
		{"http", "[::ffff:192.0.2.1]:81", "http://192.0.2.1:81"},
		{"http", "192.0.2.1", "http://192.0.2.1"},
		{"ftp", "edge.example.com", ""},
		{"http", "a b", ""},
	} {
		if got := Canonical(test[0], test[1]); got != test[2] {
			t.Errorf("%s, %s: got %q, want %q", test[0], test[1], got, test[2])
		}
	}
}

func TestHosts_AllowsAddress(t *testing.T) {
	t.Parallel()
	private := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
		"2001::1", "2002:a00:1::", "2002:a9fe:a9fe::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1",
	}
	public := []string{
		"1.1.1.1", "11.0.0.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255", "::ffff:1.1.1.1", "64:ff9b::101:101",
		"2001:4860:4860::8888", "2002:101:101::1", "2606:4700::1111",
	}
	h := mustHosts(t, nil, nil, Config{})
	for _, text := range private {
		if h.AllowsAddress(netip.MustParseAddr(text)) {
			t.Errorf("%s: allowed, want refused", text)
		}
	}
	for _, text := range public {
		if !h.AllowsAddress(netip.MustParseAddr(text)) {
			t.Errorf("%s: refused, want allowed", text)
		}
	}
	h = mustHosts(t, nil, nil, Config{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}})
	for text, want := range map[string]bool{
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "64:ff9b::a00:1": true, "2002:a00:1::": true, "fe80::1%eth0": true,
		"11.0.0.1": true, "192.168.1.1": false, "127.0.0.1": false, "::1": false, "fd00::1": false,
	} {
		if got := h.AllowsAddress(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s beside listed networks: got %v, want %v", text, got, want)
		}
	}
}

func TestHosts_IsConfigured(t *testing.T) {
	t.Parallel()
	h := testHosts(t)
	for hostPort, want := range map[string]bool{
		"10.0.0.5:8000": true, "10.0.0.5:80": false, "origin.example.com:443": true, "[2001:db8::5]:80": true,
		"other.example.com:8000": true, "edge.example.com:80": false, "tv.example.com:443": false, "": false,
	} {
		if got := h.IsConfigured(hostPort); got != want {
			t.Errorf("%s: got %v, want %v", hostPort, got, want)
		}
	}
}

// FuzzHosts_Match checks the match against what net/url and netip say about the same host.
func FuzzHosts_Match(f *testing.F) {
	for _, host := range []string{
		"10.0.0.5:8000", "origin.example.com.", "[2001:db8::5]:80", "a.cdn.example.com", ".cdn.example.com", "cdn.example.com:",
		"edge.example.com:08080", "[::ffff:192.0.2.9]", "127.1", "0x7f.1", "any.example.com:99999", "edge.example.com%00", "[fe80::1%25eth0]:1", "a..cdn.example.com", "a..",
	} {
		f.Add("https", host)
		f.Add("http", host)
	}
	h := testHosts(f)
	f.Fuzz(func(t *testing.T, scheme, host string) {
		m, canonical := h.Match(scheme, host), Canonical(scheme, host)
		if canonical == "" {
			if m.Kind != Foreign {
				t.Fatalf("%q, %q: of kind %d, although no URL has that host", scheme, host, m.Kind)
			}
			return
		}
		again, rest, _ := strings.Cut(canonical, "://")
		if got := h.Match(again, rest); got != m || Canonical(again, rest) != canonical {
			t.Fatalf("%q, %q: %+v, but in canonical form %q: %+v", scheme, host, m, canonical, got)
		}
		u, err := url.Parse(canonical)
		if err != nil || u.User != nil || u.Host != strings.Replace(rest, "%25", "%", 1) || u.Path != "" || u.RawQuery != "" {
			t.Fatalf("%q, %q: canonical form %q is %+v, %v", scheme, host, canonical, u, err)
		}
		if m.Kind == Listed && !isListedByHand(u) {
			t.Fatalf("%q, %q: listed, but %q is not", scheme, host, canonical)
		}
	})
}

// isListedByHand says by string comparison alone what testHosts lists.
func isListedByHand(u *url.URL) bool {
	name, hasPort := u.Hostname(), u.Port() != ""
	switch canonical := u.Host; {
	case canonical == "other.example.com:8000", canonical == "port.example.com:8080", canonical == "[2001:db8::7]:81", name == "any.example.com":
		return true
	case hasPort:
		return false
	default:
		return name == "edge.example.com" || strings.HasSuffix(name, ".cdn.example.com") && !strings.HasPrefix(name, ".")
	}
}
