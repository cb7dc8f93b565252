package setting_test

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"usher/backends/setting"
)

var addressSeeds = [...]string{
	":8080", "127.0.0.1:0", "[::1]:65535", "localhost:http", "redis.example.com:6379", "[fe80::1%eth0]:80", "a_b.example.:1",
	"", "8080", "127.0.0.1:", "::1", ":65536", ":-1", ":+80", ":nosuch", "a b:80", "a\x00b:80", "http://a:80", "999.0.0.1:80", "[a]:80", "[::1%]:80",
	"a..b:80", "*:80",
}

// FuzzValidateListen checks any address. What is accepted splits into a port that exists and a host that the listener takes: none,
// an address, or a name that a resolver would be asked for.
func FuzzValidateListen(f *testing.F) {
	for _, seed := range addressSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := setting.ValidateListen(text); err != nil {
			checkRefusal(t, text, err)
			return
		}
		checkAccepted(t, text, 0)
	})
}

// FuzzValidateServer checks any address, likewise. A server is not on port 0, which ValidateListen accepts.
func FuzzValidateServer(f *testing.F) {
	for _, seed := range addressSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := setting.ValidateServer(text); err != nil {
			checkRefusal(t, text, err)
			return
		}
		checkAccepted(t, text, 1)
		if err := setting.ValidateListen(text); err != nil {
			t.Errorf("%q is a server's address, but %v", text, err)
		}
	})
}

// FuzzValidatePort checks any port. What is accepted is the port of a URL that can be called.
func FuzzValidatePort(f *testing.F) {
	for _, seed := range [...]string{"", "1", "65535", "0", "65536", "http", "+80", "-1", "080", "8\n0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, port string) {
		if err := setting.ValidatePort(port); err != nil {
			return
		}
		u, err := url.Parse("http://example.com:" + port + "/")
		if err != nil || u.Port() != port {
			t.Fatalf("%q is accepted, and makes the URL %v, %v", port, u, err)
		}
		if _, err := net.ResolveTCPAddr("tcp", "127.0.0.1:"+port); err != nil {
			t.Errorf("%q is accepted: %v", port, err)
		}
	})
}

// checkRefusal checks that the error is one line that quotes the address.
func checkRefusal(t *testing.T, text string, err error) {
	t.Helper()
	if message := err.Error(); !strings.HasPrefix(message, strconv.Quote(text)) || strings.ContainsAny(message, "\n\r\x00") {
		t.Errorf("%q is refused with %q", text, message)
	}
}

// checkAccepted checks that an address which was accepted can be used, without asking a resolver for its host.
func checkAccepted(t *testing.T, text string, leastPort int) {
	t.Helper()
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		t.Fatalf("%q is accepted: %v", text, err)
	}
	resolved, err := net.ResolveTCPAddr("tcp", ":"+port)
	if err != nil || resolved.Port < leastPort || resolved.Port > 65535 {
		t.Fatalf("%q is accepted: port %v, %v", text, resolved, err)
	}
	address, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		at, err := net.ResolveTCPAddr("tcp", text)
		if err != nil || at.AddrPort().Addr().Unmap() != address.Unmap() {
			t.Errorf("%q is accepted: it is %v, %v", text, at, err)
		}
	case len(host) > 254 || strings.ContainsAny(host, " \t\r\n\x00:/%[]@*") || strings.Contains(host, "..") || strings.HasPrefix(host, "."):
		t.Errorf("%q is accepted: no resolver finds %q", text, host)
	case host != "" && strings.Trim(host, "0123456789.") == "":
		t.Errorf("%q is accepted: %q is neither an address nor a name", text, host)
	}
}
