package rules

import "testing"

func TestHostWithoutPort(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"tv.example.com":       "tv.example.com",
		"tv.example.com:8080":  "tv.example.com",
		"tv.example.com.:8080": "tv.example.com",
		"[2001:db8::1]:8080":   "2001:db8::1",
		"2001:db8::1":          "2001:db8::1",
		"::1":                  "::1",
		":8080":                "",
		"":                     "",
	} {
		if got := hostWithoutPort(host); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

func TestRefererHost(t *testing.T) {
	t.Parallel()
	for referer, want := range map[string]string{
		"https://tv.example.com/watch":         "tv.example.com",
		"https://user@tv.example.com":          "tv.example.com",
		"https://@tv.example.com":              "tv.example.com",
		"https://a@b@tv.example.com:8443#x":    "tv.example.com",
		"https://evil.example?@tv.example.com": "evil.example",
		"/tv.example.com":                      "",
		"?tv.example.com":                      "",
		`\tv.example.com`:                      "",
	} {
		if got := refererHost(referer); got != want {
			t.Errorf("%q: got %q, want %q", referer, got, want)
		}
	}
}
