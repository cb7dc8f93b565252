package flussonic

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

// For any viewer input, each of our parameters occurs once and the request is of bounded size.
func FuzzParameters(f *testing.F) {
	f.Add("a001", "token=123", "VLC/3.0.20", "http://ya.ru/?token=456&name=lalala")
	f.Add("vod/bunny.mp4", "name=x&ip=y", "\r\n\x00&#;%", "\xff\xfe")
	f.Fuzz(func(t *testing.T, channel, query, agent, referer string) {
		b := &Backend{viewerCount: testViewerCount, autoToken: true}
		r := &backends.Request{Channel: channel, Query: query, UserAgent: agent, Referer: referer}
		var raw strings.Builder
		for _, p := range b.parameters(r, httpbackend.QueryValue(query, "token"), time.Time{}) {
			raw.WriteString("&" + p.Name + "=" + strings.ReplaceAll(url.QueryEscape(p.Value), "+", "%20"))
		}
		const maxViewerBytes = 7 << 10
		if raw.Len() > maxViewerBytes+256 {
			t.Errorf("got %d bytes, want at most %d and ours", raw.Len(), maxViewerBytes)
		}
		received, err := url.ParseQuery(raw.String())
		if err != nil {
			t.Fatalf("the middleware cannot read %q: %v", raw.String(), err)
		}
		for name, values := range received {
			if len(values) != 1 {
				t.Errorf("got %s %d times, want once", name, len(values))
			}
		}
		if received.Get("proto") != "hls" || received.Get("request_type") != "new_session" {
			t.Errorf("ours were overridden: %q", raw.String())
		}
		if !strings.HasPrefix(channel, received.Get("name")) || !strings.HasPrefix(query, received.Get("qs")) ||
			!strings.HasPrefix(agent, received.Get("user_agent")) || !strings.HasPrefix(referer, received.Get("referer")) {
			t.Errorf("viewer input was changed: %q", raw.String())
		}
	})
}
