package iptvportal

import (
	"net/netip"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
)

// The golden files pin the order and the bytes of a request.
func TestCheck_RequestBytes(t *testing.T) {
	t.Parallel()
	for file, flussonic := range map[string]bool{"testdata/request.txt": false, "testdata/flussonic.txt": true} {
		backendtest.WantRequest(t, file, "portal.example.com", "", func(address string) {
			b := newBackend(t, address, flussonic)
			_, err := b.Check(t.Context(), &backends.Request{
				Session: backends.SessionID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0}, Channel: "a001",
				Query: "t=a%2Bb+c/d==%00&t=2", Path: "/play/a001/index.m3u8", Scheme: "https", Host: "live.example.com",
				UserAgent: "VLC/3.0.20", Address: netip.MustParseAddr("2001:db8::7"),
				Headers: []backends.Header{{Name: "Cookie", Value: "sid=1"}},
			})
			if err != nil {
				t.Fatalf("check: %v", err)
			}
		})
	}
}
