package flussonic

import (
	"net/netip"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/setting"
)

// The golden files pin the order and the bytes of a request. The update is the sample of Flussonic's API documentation,
// flussonic.com/doc/api/authorization, with our format of session ids.
func TestCheck_RequestBytes(t *testing.T) {
	t.Parallel()
	opened := time.Unix(1350274200, 0)
	tests := map[string]struct {
		path    string // of the address
		after   time.Duration
		request backends.Request
	}{
		"new_session": {
			"/auth?site=1", 0,
			backends.Request{
				Session: backends.SessionID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0}, Channel: "vod/bunny.mp4",
				Query: "token=1%2F2&token=3&name=lalala", Path: "/play/vod/bunny.mp4/archive-1350274200-4200.m3u8",
				Scheme: "https", Host: "live.example.com:8443",
				UserAgent: "VLC/3.0.20", Referer: "http://ya.ru/?token=456&name=lalala",
				Address: netip.MustParseAddr("2001:db8::7"), Opened: opened,
				Headers: []backends.Header{{Name: "Cookie", Value: "sid=1"}, {Name: "X-Real-Ip", Value: "10.0.0.1"}},
			},
		},
		"update_session": {
			"/auth", 2 * time.Second,
			backends.Request{
				Session: backends.SessionID{
					0x62, 0x17, 0xfd, 0x62, 0x16, 0xda, 0x42, 0x06, 0x9d, 0xa9, 0x01, 0x73, 0xd7, 0x55, 0x2a, 0x14,
				},
				Number: 1, Channel: "fake", Query: "token=60334b207baa", Path: "/play/fake/index.m3u8",
				UserAgent: "curl/7.68.0", Referer: "hey.com", Address: netip.MustParseAddr("10.77.0.150"),
				Opened: opened, Bytes: 12345, Current: allowedDecision(nil),
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backendtest.WantRequest(t, "testdata/"+name+".txt", "auth.example.com", "", func(address string) {
				b := newBackend(t, address+tt.path, func(c *Config) {
					c.HTTP.Headers = map[string]setting.Secret{"X-Api-Key": "s3cret"}
				})
				if _, err := b.checkAt(t.Context(), &tt.request, opened.Add(tt.after)); err != nil {
					t.Fatalf("check: %v", err)
				}
			})
		})
	}
}
