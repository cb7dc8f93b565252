package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestPlayers_OddOrigins_SameAsDirect plays by ffmpeg what origins list in odd forms. What it decodes through a node is what it
// decodes from the origin: at first, from a node that never saw the playlist, and from one that has restarted since.
func TestPlayers_OddOrigins_SameAsDirect(t *testing.T) {
	t.Parallel()
	segments := packageSegments(t)
	s := setup{origin: "http://127.0.0.1:9", middleware: startMiddleware(t).URL()}
	plays := map[string]*oddPlay{}
	for _, name := range slices.Sorted(maps.Keys(oddOrigins())) {
		c := oddOrigins()[name]
		o := startOddOrigin(t, &c, segments)
		c.put(o, "direct")
		plays[name] = &oddPlay{oddCase: c, origin: o}
		s.origins += fmt.Sprintf("  %s: { url: %q, %s }\n", c.folder, o.url, strings.ReplaceAll(c.origin, "EDGE", host(o.edge)))
		s.routes += fmt.Sprintf("  - { path: %q, origin: %s, backend: portal, %s }\n", c.pattern(), c.folder, c.route)
	}
	first, second := startNode(t, s), startNode(t, s)
	// The group's end is that of all its tests.
	t.Run("at first", func(t *testing.T) {
		for name, p := range plays {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p.playAtFirst(t, first, second)
			})
		}
	})
	first.signal(syscall.SIGKILL)
	first.wait(t)
	first.start(t)
	t.Run("after a restart", func(t *testing.T) {
		for name, p := range plays {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if p.playlist == "" {
					t.Fatal("it did not play before")
				}
				p.wantFrames(t, startSplit(t, isPathOf(p.playlist), second, first)+p.playlist)
			})
		}
	})
}

// oddPlay plays a case.
type oddPlay struct {
	oddCase
	origin *oddOrigin
	// video and audio are what ffmpeg decoded from the origin.
	video, audio []string
	// playlist is the path and query of a media playlist of the first node, to be played after its restart.
	playlist string
}

// playAtFirst plays from the origin, from the first node, and from the second node the media that a playlist of the first one
// lists. Each play has a channel of its own, so that nothing is in a cache.
func (p *oddPlay) playAtFirst(t *testing.T, first, second *node) {
	t.Helper()
	p.video, p.audio = decode(t, p.origin.url+p.entry("direct"))
	if len(p.video) < 30 || len(p.audio) < 120 {
		t.Fatalf("%d and %d frames from the origin, want three seconds", len(p.video), len(p.audio))
	}
	p.put(p.origin, "first")
	p.wantFrames(t, first.public+p.entry("first")+"?token=good")

	p.put(p.origin, "second")
	media := p.mediaPlaylist(t, first, "second")
	p.wantFrames(t, startSplit(t, isPathOf(media), first, second)+media)

	p.put(p.origin, "third")
	p.playlist = p.mediaPlaylist(t, first, "third")
}

// mediaPlaylist opens a channel and returns the path and query of its media playlist.
func (p *oddPlay) mediaPlaylist(t *testing.T, n *node, channel string) string {
	t.Helper()
	v := &viewer{source: n.public + p.entry(channel) + "?token=good", client: n.client}
	if _, err := v.load(t.Context()); err != nil {
		t.Fatalf("open the channel: %v", err)
	}
	return strings.TrimPrefix(v.playlist, n.public)
}

// wantFrames plays to the end and requires the frames that the origin gave.
func (p *oddPlay) wantFrames(t *testing.T, address string) {
	t.Helper()
	video, audio := decode(t, address)
	if !slices.Equal(video, p.video) || !slices.Equal(audio, p.audio) {
		t.Errorf("%s: %d and %d frames, which are not the %d and %d of the origin",
			address, len(video), len(audio), len(p.video), len(p.audio))
	}
}

// decode plays a playlist from its beginning to its end, and returns the hashes of the frames.
func decode(t *testing.T, address string) (video, audio []string) {
	t.Helper()
	f := startFrames(t, address, "-f", "hls", "-live_start_index", "0",
		"-allowed_extensions", "ALL", "-allowed_segment_extensions", "ALL", "-extension_picky", "0")
	if code := f.wait(t); code != 0 || f.errs.String() != "" {
		t.Fatalf("ffmpeg ended with %d at %s: %s", code, address, f.errs)
	}
	return f.frames("video"), f.frames("audio")
}

// startSplit runs a proxy that sends requests for playlists to one node and all others to another node.
func startSplit(t *testing.T, isPlaylist func(path string) bool, lists, media *node) string {
	t.Helper()
	transport := trustAll(new(http.Transport))
	t.Cleanup(transport.CloseIdleConnections)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		n := media
		if isPlaylist(r.In.URL.EscapedPath()) {
			n = lists
		}
		to, _ := url.Parse(n.public) // valid, because the node runs
		r.SetURL(to)
		r.SetXForwarded()
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// isPathOf returns a function that reports whether a path is that of a reference.
func isPathOf(reference string) func(path string) bool {
	want, _, _ := strings.Cut(reference, "?")
	return func(path string) bool { return path == want }
}
