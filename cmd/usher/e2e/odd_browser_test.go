package e2e

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestPlayers_OddOrigins_SameInBrowser plays by hls.js what ffmpeg does not know or spells as it stands: variables, and queries
// that a browser spells anew. It plays to the end, and the origin is asked for the same as without a gateway: at first, from a
// node that never saw the playlists, and from one that has restarted since.
func TestPlayers_OddOrigins_SameInBrowser(t *testing.T) {
	t.Parallel()
	cases := map[string]oddCase{
		"variables": {folder: "variables", put: putVariables},
		"queries":   oddCase{folder: "queries"}.lists("v.m3u8?a=it's a ж", "1.ts?q='x y'", "2.ts?ключ=знач", "3.ts?a=b&&c=d|e"),
	}
	segments := packageSegments(t)
	s := setup{origin: "http://127.0.0.1:9", middleware: startMiddleware(t).URL()}
	origins := map[string]*oddOrigin{}
	for name, c := range cases {
		o := startOddOrigin(t, &c, segments)
		page := httptest.NewServer(allowAnyPage(o)) // the same origin for a player on another site
		t.Cleanup(page.Close)
		o.url, origins[name] = page.URL, o
		s.origins += fmt.Sprintf("  %s: { url: %q }\n", name, o.url)
		s.routes += fmt.Sprintf("  - { path: %q, origin: %s, backend: portal }\n", c.pattern(), name)
	}
	first, second := startNode(t, s), startNode(t, s)
	p := openPage(t)
	play := func(channel, credentials string, server func(*oddOrigin) string) {
		t.Helper()
		p.call(t, "startOver")
		for name, c := range cases {
			c.put(origins[name], channel)
			p.call(t, "play", name, server(origins[name])+c.entry(channel)+credentials, map[string]any{})
		}
		for name, f := range p.awaitPlayed(t, 2.5) {
			isNetworkError := func(text string) bool { return strings.HasPrefix(text, "networkError") }
			if f.Fragments < 3 || slices.ContainsFunc(f.Errors, isNetworkError) {
				t.Errorf("%s, %s: %d fragments, errors %q", name, channel, f.Fragments, f.Errors)
			}
			asked, want := origins[name].askedOf(channel), origins[name].askedOf("direct")
			if channel != "direct" && !slices.Equal(asked, want) {
				t.Errorf("%s, %s: the origin was asked for\n%s\nwant\n%s",
					name, channel, strings.Join(asked, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	play("direct", "", func(o *oddOrigin) string { return o.url })
	play("first", "?token=good", func(*oddOrigin) string { return first.public })
	play("second", "?token=good", func(*oddOrigin) string { return startSplit(t, isPlaylist, first, second) })
	first.signal(syscall.SIGKILL)
	first.wait(t)
	first.start(t)
	play("third", "?token=good", func(*oddOrigin) string { return startSplit(t, isPlaylist, second, first) })
}

// putVariables puts a channel on the origin that lists hosts, folders and queries by variables of each kind.
func putVariables(o *oddOrigin, channel string) {
	folder := o.url + "/variables/" + channel + "/"
	o.put(folder+"index.m3u8", &oddFile{versions: []string{
		"#EXTM3U\n#EXT-X-VERSION:11\n#EXT-X-DEFINE:NAME=\"auth\",VALUE=\"sig=a%2Fb&x=1\"\n#EXT-X-DEFINE:NAME=\"server\",VALUE=\"" + o.url + "\"\n" +
			"#EXT-X-STREAM-INF:BANDWIDTH=200000\n{$server}/variables/" + channel + "/v.m3u8?{$auth}&q=abc\n",
	}})
	list := strings.Replace(media(0, true, "1.ts?{$auth}", "{$folder}/2.ts", "/variables/"+channel+"/3.ts?t={$q}"), "#EXT-X-VERSION:8\n",
		"#EXT-X-VERSION:11\n#EXT-X-DEFINE:IMPORT=\"auth\"\n#EXT-X-DEFINE:QUERYPARAM=\"q\"\n#EXT-X-DEFINE:NAME=\"folder\",VALUE=\"f-{$q}\"\n", 1)
	o.put(folder+"v.m3u8?sig=a%2Fb&x=1&q=abc", &oddFile{versions: []string{list}})
	for i, name := range []string{"1.ts?sig=a%2Fb&x=1", "f-abc/2.ts", "3.ts?t=abc"} {
		o.put(folder+name, &oddFile{versions: []string{o.media[i]}, isMedia: true})
	}
}
