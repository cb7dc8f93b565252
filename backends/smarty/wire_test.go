package smarty

import (
	"net/netip"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
)

func TestCheck_RequestBytes(t *testing.T) {
	t.Parallel()
	backendtest.WantRequest(t, "testdata/request.txt", "smarty.example.com", `{"error": 0}`, func(address string) {
		b := newBackend(t, address, func(c *Config) { c.Send = []string{"name", "ip"} })
		_, err := b.Check(t.Context(), &backends.Request{
			Session: backends.SessionID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0}, Channel: "a001",
			Query: "token=a%2Bb&ip=10.0.0.1&name=a002&token=2", Path: "/play/a001/index.m3u8", Scheme: "https",
			Host: "live.example.com", UserAgent: "VLC/3.0.20", Address: netip.MustParseAddr("2001:db8::7"),
			Headers: []backends.Header{{Name: "Cookie", Value: "sid=1"}},
		})
		if err != nil {
			t.Fatalf("check: %v", err)
		}
	})
}
