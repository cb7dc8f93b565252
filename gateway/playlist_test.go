package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"usher/gateway/hls"
)

func TestKnownDirective(t *testing.T) {
	t.Parallel()
	for pair, want := range map[string]bool{
		"_HLS_msn=0": true, "_HLS_msn=0123456789": true, "_HLS_msn=01234567890": false, "_HLS_msn=": false, "_HLS_msn": false,
		"_HLS_msn=1x": false, "_HLS_msn=x": false, "_HLS_part=17": true, "_HLS_part=-1": false, "_HLS_part=": false,
		"_HLS_skip=YES": true, "_HLS_skip=v2": true, "_HLS_skip=NO": false, "_HLS_skip=": false,
		"_HLS_legacy=YES": true, "_HLS_legacy=NO": true, "_HLS_legacy=v2": false, "_HLS_legacy": false,
		"_HLS_rewind=YES": true, "_HLS_rewind=NO": true, "_HLS_rewind=1": false,
		"_HLS_other=1": false, "msn=1": false, "": false,
	} {
		if got := knownDirective(pair); got != want {
			t.Errorf("knownDirective(%q): got %v", pair, got)
		}
	}
}

func TestWithoutDirectives(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"":                                "",
		"a=1&&":                           "a=1&&",
		"a=1&_HLS_msn=1&b=2&_HLS_skip=v2": "a=1&b=2",
		"_HLS_msn=1":                      "",
		"_HLS_msn=x&_HLS_other=1":         "_HLS_msn=x&_HLS_other=1",
	} {
		if got := withoutDirectives(query); got != want {
			t.Errorf("withoutDirectives(%q): got %q, want %q", query, got, want)
		}
	}
}

func TestDocumentDirectives(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range maxDocumentDirectives + 1 {
		many = append(many, fmt.Sprintf("_HLS_%d=1", i))
	}
	long := "_HLS_pathway=" + strings.Repeat("x", maxDirectiveSize-len("_HLS_pathway="))
	for query, want := range map[string]string{
		"":        "",
		"token=1": "",
		"token=1&_HLS_throughput=2&_HLS_pathway=A": "_HLS_pathway=A&_HLS_throughput=2",
		strings.Join(many, "&"):                    strings.Join(many[:maxDocumentDirectives], "&"),
		long:                                       long,
		long + "x":                                 "",
		"_hls_pathway=A":                           "",
	} {
		if got := documentDirectives(query); got != want {
			t.Errorf("documentDirectives(%q): got %q, want %q", query, got, want)
		}
	}
}

func TestInspect_Freshness(t *testing.T) {
	t.Parallel()
	const media = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.ts\n"
	cases := map[string]struct {
		body         string
		fresh, stale time.Duration
	}{
		"no playlist":              {"<html>", 0, 0},
		"nothing":                  {"", 0, 0},
		"a multivariant playlist":  {"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n", 5 * time.Second, time.Minute},
		"a media playlist":         {media, 3 * time.Second, 18 * time.Second},
		"one that is complete":     {media + "#EXT-X-ENDLIST\n", 3 * time.Second, 18 * time.Second},
		"one with parts":           {lowLatencyPlaylist, 250 * time.Millisecond, 12 * time.Second},
		"one with parts, complete": {lowLatencyPlaylist + "#EXT-X-ENDLIST\n", 2 * time.Second, 12 * time.Second},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, err := inspect([]byte(tc.body))
			if read.Fresh != tc.fresh || read.Stale != tc.stale || (err != nil) != (tc.stale == 0) {
				t.Errorf("got %v and %v, %v, want %v and %v", read.Fresh, read.Stale, err, tc.fresh, tc.stale)
			}
		})
	}
}

func TestPlaylistContentType(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"": playlistType, "text/plain": playlistType, "Audio/X-MpegURL": "Audio/X-MpegURL", playlistType + "; charset=utf-8": playlistType + "; charset=utf-8",
	} {
		if got := playlistContentType(given); got != want {
			t.Errorf("playlistContentType(%q): got %q, want %q", given, got, want)
		}
	}
}

func TestRequestContext_TemplateKey(t *testing.T) {
	t.Parallel()
	const star, named = "/play/{channel}/*", "/{user}/{channel}/*"
	for _, tc := range []struct {
		pattern, path                string
		ticketIn                     hls.TicketTransport
		isInPath, isOpen, isPlaylist bool
		want                         string // the path
	}{
		{star, "/play/tv/v.m3u8", hls.TicketInPath, false, false, true, ""},
		{star, "/play/tv/v.m3u8", hls.TicketInNone, false, false, true, ""},
		{star, "/play/tv/v.m3u8", hls.TicketInPath, true, false, true, "/play/tv/v.m3u8"},
		{star, "/play/tv/v.m3u8", hls.TicketInPath, false, true, false, "/play/tv/v.m3u8"},
		{star, "/play/tv/v.m3u8", hls.TicketInQuery, false, false, true, "/play/tv/v.m3u8"},
		{star, "/play/tv/v.m3u8", hls.TicketInCookie, false, false, true, "/play/tv/v.m3u8"},
		{named, "/ann/tv/v.m3u8", hls.TicketInPath, false, false, true, "/ann/tv/v.m3u8"},
	} {
		rc := &requestContext{
			target: newTestTarget(t, RouteConfig{Path: tc.pattern, TicketIn: tc.ticketIn}, tc.path), path: tc.path,
			isTicketInPath: tc.isInPath, isPlaylist: tc.isPlaylist, sealed: sealedURI{isOpen: tc.isOpen},
		}
		want := templateKey{
			route: rc.target.route, channel: "tv", path: tc.want, isTicketInPath: tc.isInPath, isDocument: !tc.isPlaylist,
		}
		if got := rc.templateKey(); got != want {
			t.Errorf("%+v: got %+v, want %+v", tc, got, want)
		}
	}
}
