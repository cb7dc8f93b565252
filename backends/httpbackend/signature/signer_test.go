package signature_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/httpbackend/signature"
	"usher/backends/setting"
)

const (
	secretA = "0123456789abcdef"
	secretB = "fedcba9876543210"
)

func newRequest(rawURL string, header http.Header) *http.Request {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic(err)
	}
	return &http.Request{Method: http.MethodGet, URL: u, Header: header}
}

// The signatures were made by openssl dgst -sha256 -hmac of the lines that the package's documentation names.
func TestSigner_Sign(t *testing.T) {
	t.Parallel()
	c := signature.DefaultConfig()
	c.Keys = []setting.Key{{ID: "a", Secret: secretA}, {ID: "b", Secret: secretB}}
	r := newRequest("http://portal.example.com/check%2F1?token=a%2Fb&x", http.Header{
		"X-Session-ID": {"42"}, "X-Real-IP": {" 192.0.2.7 "}, "X-Real-Path": {"/play/a001/index.m3u8"},
		"x-usher-signature": {"a=viewer"}, "X-Usher-Timestamp": {"1"},
	})
	signature.New(c).Sign(r, time.Unix(1772366400, 999))
	want := http.Header{
		"X-Session-ID": {"42"}, "X-Real-IP": {" 192.0.2.7 "}, "X-Real-Path": {"/play/a001/index.m3u8"},
		"X-Usher-Timestamp": {"1772366400"},
		"X-Usher-Signature": {"a=ce8ed9c7b1ea262f3020c5100c7e9f898777eaedc49e27d0c61abdd8c23bdddb,b=5e984d15b9bb144b404878779db1a0714c31c90ab1345b956efa6c79703afa5c"},
	}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

// TestSigner_Sign_EveryPartCounts changes one part of a request after another.
func TestSigner_Sign_EveryPartCounts(t *testing.T) {
	t.Parallel()
	type parts struct {
		url, method, session, address string
		key                           setting.Key
		now                           int64
	}
	base := parts{"http://portal.example.com/check?t=1", http.MethodGet, "42", "192.0.2.7", setting.Key{ID: "a", Secret: secretA}, 1000}
	sign := func(p parts) string {
		c := signature.DefaultConfig()
		c.Keys = []setting.Key{p.key}
		r := newRequest(p.url, http.Header{"X-Session-ID": {p.session}, "X-Real-IP": {p.address}})
		r.Method = p.method
		signature.New(c).Sign(r, time.Unix(p.now, 0))
		_, mac, _ := strings.Cut(r.Header.Get("X-Usher-Signature"), "=")
		return mac
	}
	seen := map[string]string{sign(base): "the base"}
	for name, change := range map[string]func(p *parts){
		"path":            func(p *parts) { p.url = "http://portal.example.com/Check?t=1" },
		"query":           func(p *parts) { p.url += "&" },
		"method":          func(p *parts) { p.method = http.MethodHead },
		"a header":        func(p *parts) { p.session = "43" },
		"no header":       func(p *parts) { p.session = "" },
		"another's value": func(p *parts) { p.session, p.address = p.address, p.session },
		"time":            func(p *parts) { p.now++ },
		"secret":          func(p *parts) { p.key.Secret = secretB },
		"id":              func(p *parts) { p.key.ID = "b" },
	} {
		p := base
		change(&p)
		mac := sign(p)
		if other, isKnown := seen[mac]; isKnown || len(mac) != 64 {
			t.Errorf("%s: %q is the signature of %q", name, mac, other)
		}
		seen[mac] = name
	}
	other := base
	if other.url = "https://other.example.com:8443/check?t=1"; sign(other) != sign(base) {
		t.Error("the host counts, which a proxy changes")
	}
}

func TestSigner_Sign_NoKeys_NothingSet(t *testing.T) {
	t.Parallel()
	r := newRequest("http://portal.example.com/", http.Header{"X-Usher-Signature": {"kept"}})
	s := signature.New(signature.DefaultConfig())
	s.Sign(r, time.Unix(1000, 0))
	s.Remove(r.Header)
	if diff := cmp.Diff(http.Header{"X-Usher-Signature": {"kept"}}, r.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	key := setting.Key{ID: "a", Secret: secretA}
	for name, tt := range map[string]struct {
		change func(c *signature.Config)
		want   string
	}{
		"the default":            {func(*signature.Config) {}, ""},
		"a key":                  {func(c *signature.Config) { c.Keys = []setting.Key{key} }, ""},
		"a key twice":            {func(c *signature.Config) { c.Keys = []setting.Key{key, key} }, `signature.keys[1].id: "a": want 1 to 16 letters`},
		"a short secret":         {func(c *signature.Config) { c.Keys = []setting.Key{{ID: "a", Secret: "x"}} }, "signature.keys[0].secret: has 1 bytes"},
		"too many keys":          {func(c *signature.Config) { c.Keys = make([]setting.Key, 5) }, "signature.keys: 5 of them; want at most 4"},
		"one header for both":    {func(c *signature.Config) { c.Header = "x-usher-timestamp" }, `signature.timestamp_header: "X-Usher-Timestamp" is signature.header too`},
		"a signed signature":     {func(c *signature.Config) { c.SignedHeaders = []string{"x-usher-signature"} }, `signature.signed_headers[0]: "x-usher-signature" is set by`},
		"no name":                {func(c *signature.Config) { c.SignedHeaders = []string{"X-A", ""} }, `signature.signed_headers[1]: "" is no header name`},
		"a name with a colon":    {func(c *signature.Config) { c.SignedHeaders = []string{"X-A:"} }, `signature.signed_headers[0]: "X-A:" is no header name`},
		"a name with a new line": {func(c *signature.Config) { c.SignedHeaders = []string{"X\n"} }, `signature.signed_headers[0]: "X\n" is no header name`},
	} {
		c := signature.DefaultConfig()
		tt.change(&c)
		err := c.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
