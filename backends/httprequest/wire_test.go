package httprequest

import (
	"net/netip"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/setting"
)

func TestCheck_RequestBytes(t *testing.T) {
	t.Parallel()
	backendtest.WantRequest(t, "testdata/request.txt", "auth.example.com", "", func(address string) {
		b := newBackend(t, address+"/check", func(c *Config) {
			c.HTTP.Headers = map[string]setting.Secret{"X-Api-Key": "s3cret"}
		})
		_, err := b.Check(t.Context(), &backends.Request{
			Session: backends.SessionID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0}, Channel: "a001",
			Query: "token=1%2F2&token=3", Path: "/play/a001/index.m3u8", Scheme: "https", Host: "live.example.com",
			UserAgent: "VLC/3.0.20", Address: netip.MustParseAddr("2001:db8::7"),
			Headers: []backends.Header{{Name: "Cookie", Value: "sid=1"}},
		})
		if err != nil {
			t.Fatalf("check: %v", err)
		}
	})
}
