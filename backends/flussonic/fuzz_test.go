package flussonic

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

func FuzzIsArchive(f *testing.F) {
	for _, seed := range []string{
		"/a/archive-1350274200-4200.m3u8", "/a/index-1-now.m3u8", "/a/tracks-v1a1-1-2.ts", "timeshift_abs-1",
		"/a/video-timeshift_rel-3600.m3u8", "rewind-7200.m3u8", "/%61rchive%2d1-2.m3u8", "/a/mono-1-2.m3u8%", "--.m3u8",
	} {
		f.Add(seed)
	}
	archive := regexp.MustCompile(`^(?s:.*/)?(` +
		`((archive|index|video|mono|tracks-[^-/]*)-)?(timeshift_abs|timeshift_rel|rewind)-[0-9]+|` +
		`(archive|index|video|mono|tracks-[^-/]*)-[0-9]+-([0-9]+|now))(\.m3u8|\.ts)?$`)
	f.Fuzz(func(t *testing.T, path string) {
		plain, err := url.PathUnescape(path)
		if err != nil {
			plain = path
		}
		if got, want := isArchive(path, "a001"), archive.MatchString(plain); got != want {
			t.Errorf("%q: got %t, want %t", path, got, want)
		}
	})
}

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
