package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
	"usher/gateway/origin"
	"usher/gateway/reference"
)

func TestRequestContext_MediaFreshness(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		hasSession bool
		target     time.Duration
		isComplete bool
		path       string
		want       time.Duration
	}{
		"no session":            {false, 0, false, "/play/tv/x.ts", unknownTargetDuration},
		"no target duration":    {true, 0, false, "/play/tv/x.ts", unknownTargetDuration},
		"a live playlist":       {true, 6 * time.Second, false, "/play/tv/x.ts", 6 * time.Second},
		"a complete one":        {true, 6 * time.Second, true, "/play/tv/x.ts", completeFreshness},
		"the key of a complete": {true, 6 * time.Second, true, "/play/tv/x.key", 6 * time.Second},
		"the key of a live one": {true, 5 * time.Second, false, "/play/tv/x.key", 5 * time.Second},
		"a key, nothing known":  {true, 0, true, "/play/tv/x.key", unknownTargetDuration},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rc := &requestContext{target: newTestTarget(t, RouteConfig{Path: "/play/{channel}/*"}, tc.path)}
			if tc.hasSession {
				s := &fakeSession{}
				s.SetTargetDuration(tc.target, tc.isComplete)
				rc.session = s
			}
			if got := rc.mediaFreshness(); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRequestContext_WhyNoSession(t *testing.T) {
	t.Parallel()
	config := RouteConfig{Path: "/play/{channel}/*", Media: []PathMappingConfig{{Path: "/m/{channel}/*"}}}
	for _, tc := range []struct {
		path, sealed string
		hints        bool
	}{
		{"/play/tv/x", "", true},
		{"/play/tv/x.php", "", true},
		{"/play/tv/x.ts", "", false},
		{"/play/tv/x.key", "", false},
		{"/m/tv/x", "", false},
		{"/play/tv/x", "sealed", false},
	} {
		rc := &requestContext{target: newTestTarget(t, config, tc.path)}
		rc.sealed.text = tc.sealed
		got := rc.whyNoSession()
		if !strings.HasPrefix(got, "no ticket; open the playlist first") || strings.Contains(got, "playlist: true") != tc.hints {
			t.Errorf("%s: got %q, with a hint: %v", tc.path, got, tc.hints)
		}
	}
}

func TestRequestContext_Role(t *testing.T) {
	t.Parallel()
	sealed := func(role hls.Role) sealedURI { return sealedURI{isOpen: true, target: reference.Target{Role: role}} }
	for _, tc := range []struct {
		path       string
		isPlaylist bool
		sealed     sealedURI
		want       hls.Role
	}{
		{"/tv/x.ts", false, sealedURI{}, hls.Media},
		{"/tv/x.ts", true, sealedURI{}, hls.Playlist},
		{"/tv/x.key", false, sealedURI{}, hls.Key},
		{"/tv/x.ts", false, sealed(hls.Document), hls.Document},
		{"/tv/x.m3u8", true, sealed(hls.Key), hls.Key},
	} {
		rc := &requestContext{target: target{path: tc.path}, isPlaylist: tc.isPlaylist, sealed: tc.sealed}
		if got := rc.role(); got != tc.want {
			t.Errorf("%+v: got %v, want %v", tc, got, tc.want)
		}
	}
}

func TestLocator_Note(t *testing.T) {
	t.Parallel()
	l := &locator{target: target{route: &route{config: RouteConfig{Origin: "o"}}}}
	for _, tc := range []struct {
		role    hls.Role
		version uint64
		origin  string
		path    string
	}{
		{hls.Media, 0, "", "/unknown.ts"},
		{hls.Playlist, 1, "", "/low.m3u8"},
		{hls.Document, 1, "", "/steer"},
		{hls.Media, 2, "", "/a.ts"},
		{hls.Key, 3, "", "/a.key"},
		{hls.Media, 4, "p", "/b.ts"},
	} {
		l.note(&hls.Listed{Role: tc.role, Version: tc.version},
			&reference.Target{Origin: tc.origin, Base: "http://x", Path: tc.path, Query: "q", Version: 9})
	}
	listed := func(path string, version uint64, isKey bool) origin.ListedMedia {
		return origin.ListedMedia{Base: "http://x", Path: path, Query: "q", RequestVersion: 9, Version: version, IsKey: isKey}
	}
	want := map[string][]origin.ListedMedia{
		"o": {listed("/a.ts", 2, false), listed("/a.key", 3, true)},
		"p": {listed("/b.ts", 4, false)},
	}
	if diff := cmp.Diff(want, l.media); diff != "" {
		t.Errorf("media (-want +got):\n%s", diff)
	}
}

func TestMediaContentType(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/a.ts": "video/mp2t", "/a.TS": "video/mp2t", "/a.m4s": "video/mp4", "/a.mp4": "video/mp4", "/a.cmfv": "video/mp4",
		"/a.m4a": "audio/mp4", "/a.cmfa": "audio/mp4", "/a.aac": "audio/aac", "/a.vtt": "text/vtt", "/a.key": "application/octet-stream",
	} {
		if got := mediaContentType("", path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := mediaContentType("video/iso.segment", "/a.ts"); got != "video/iso.segment" {
		t.Errorf("the origin's own: got %s", got)
	}
}

// TestServe_Media_CacheControl lets a cache in front share what is not protected, and nothing else.
func TestServe_Media_CacheControl(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ticketIn      hls.TicketTransport
		origin, wants string
	}{
		"in the path":               {hls.TicketInPath, "Public, max-age=3600", "private, max-age=3600"},
		"in the query":              {hls.TicketInQuery, "s-maxage=60,max-age=3600,immutable", "private, max-age=3600, immutable"},
		"in a cookie":               {hls.TicketInCookie, "max-age=3600", "private, max-age=3600"},
		"in a cookie, without":      {hls.TicketInCookie, "", "private"},
		"unprotected, without":      {hls.TicketInNone, "", ""},
		"a field that says nothing": {hls.TicketInPath, "no-cache", "private, no-cache"},
		"unprotected":               {hls.TicketInNone, "public, max-age=3600", "public, max-age=3600"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.Routes[0].TicketIn, c.CORS.AllowedOrigins = tc.ticketIn, []string{"https://tv.example.com"}
			})
			g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, ".m3u8") {
					_, _ = io.WriteString(w, mediaPlaylist)
					return
				}
				if tc.origin != "" {
					w.Header().Set("Cache-Control", tc.origin)
				}
				_, _ = io.WriteString(w, segment)
			}
			list := g.want(t, 200, "/play/a001/index.m3u8?token=1")
			uri := uris(list.body)[0]
			if !strings.HasPrefix(uri, "/") {
				uri = "/play/a001/" + uri
			}
			cookie, _, _ := strings.Cut(list.header.Get("Set-Cookie"), ";")
			for _, again := range []string{"first", "again"} {
				if got := g.want(t, 200, uri, "Cookie: "+cookie).header.Get("Cache-Control"); got != tc.wants {
					t.Errorf("%s: got Cache-Control %q, want %q", again, got, tc.wants)
				}
			}
		})
	}
}
