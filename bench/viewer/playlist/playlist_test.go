package playlist_test

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/bench/viewer/playlist"
)

func whole(uri string) playlist.Segment {
	return playlist.Segment{Resource: playlist.Resource{URI: []byte(uri)}}
}

func TestPlaylist_Read(t *testing.T) {
	t.Parallel()
	ranged := func(uri string, offset, length int64) playlist.Segment {
		return playlist.Segment{Resource: playlist.Resource{URI: []byte(uri), Offset: offset, Length: length}}
	}
	tests := map[string]struct {
		text string
		want playlist.Playlist
	}{
		"multivariant": {
			"#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI=\"audio.m3u8\"\n" +
				"#EXT-X-STREAM-INF:CODECS=\"a,BANDWIDTH=1\",BANDWIDTH=900,AVERAGE-BANDWIDTH=5\nhigh.m3u8?t=1\n" +
				"#EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=5, BANDWIDTH=300\n\n# a comment\nlow.m3u8\n",
			playlist.Playlist{Variants: []playlist.Variant{{URI: []byte("high.m3u8?t=1"), Bandwidth: 900}, {URI: []byte("low.m3u8"), Bandwidth: 300}}},
		},
		"media with carriage returns and a mark of byte order": {
			"\ufeff#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:17\r\n#EXTINF:4.0,\r\na.ts\r\n#EXTINF:4,title\r\nb.ts\r\n#EXT-X-ENDLIST",
			playlist.Playlist{Target: 4 * time.Second, Sequence: 17, Segments: []playlist.Segment{whole("a.ts"), whole("b.ts")}, HasEnded: true},
		},
		"byte ranges and maps": {
			"#EXTM3U\n#EXT-X-MAP:URI=\"i,1.mp4\",BYTERANGE=\"720@10\"\n#EXTINF:2,\n#EXT-X-BYTERANGE:100@50\nall.mp4\n" +
				"#EXT-X-BYTERANGE:30\n#EXTINF:2,\nall.mp4\n#EXT-X-GAP\n#EXTINF:2,\ngone.mp4\n",
			playlist.Playlist{
				Init: playlist.Resource{URI: []byte("i,1.mp4"), Offset: 10, Length: 720},
				Segments: []playlist.Segment{ranged("all.mp4", 50, 100), ranged("all.mp4", 150, 30), {
					Resource: playlist.Resource{URI: []byte("gone.mp4"), Offset: 0}, Gap: true,
				}},
			},
		},
		"a delta update": {
			"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-SKIP:SKIPPED-SEGMENTS=5\n#EXTINF:2,\n15.m4s\n",
			playlist.Playlist{Sequence: 15, Segments: []playlist.Segment{whole("15.m4s")}},
		},
		"numbers that are none": {
			"#EXTM3U\n#EXT-X-TARGETDURATION:x\n#EXT-X-MEDIA-SEQUENCE:-1\n#EXT-X-MAP:URI\n#EXT-X-STREAM-INF:BANDWIDTH=x\nv.m3u8\nno tag says what this is\n",
			playlist.Playlist{Variants: []playlist.Variant{{URI: []byte("v.m3u8")}}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got playlist.Playlist
			if err := got.Read([]byte(test.text)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlaylist_Read_NotPlaylist(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "<html>", "#EXTINF:2,\na.ts", "#EXTM3U8\n"} {
		p := playlist.Playlist{Segments: []playlist.Segment{whole("old.ts")}}
		if err := p.Read([]byte(text)); !errors.Is(err, playlist.ErrNotPlaylist) || len(p.Segments) > 0 {
			t.Errorf("%q: %v, %d segments; want ErrNotPlaylist and none", text, err, len(p.Segments))
		}
	}
}

func TestPlaylist_Lowest(t *testing.T) {
	t.Parallel()
	p := playlist.Playlist{Variants: []playlist.Variant{{Bandwidth: 3}, {URI: []byte("a"), Bandwidth: 1}, {URI: []byte("b"), Bandwidth: 1}}}
	if got := p.Lowest(); string(got.URI) != "a" {
		t.Errorf("the lowest variant is %q, want the first of two", got.URI)
	}
}

func TestPlaylist_Read_AllocatesNothing(t *testing.T) {
	text := []byte("#EXTM3U\n#EXT-X-TARGETDURATION:4\n" + strings.Repeat("#EXTINF:4,\nseg.ts?ticket=1\n", 20))
	var p playlist.Playlist
	read := func() {
		if err := p.Read(text); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if got := testing.AllocsPerRun(100, read); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	const base = "http://tv:8080/play/a001/index.m3u8?token=x/../y"
	for _, reference := range []string{
		"high.m3u8", "high.m3u8?ticket=a/b", "./a", "../b/c.ts", "../../../up", "a/../b", "a/./b/..", "..", ".", "/s-1/a.ts", "/a/../b?c=../d", "//cdn/x.ts",
		"https://cdn.example.com/x.ts?y", "?q=1", "", "a%2F..%2Fb", "a.ts#t=1", "a//b", "seg:1.ts",
	} {
		parsed, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		want := base
		if reference != "" {
			if strings.HasPrefix(reference, "seg:") {
				want = reference // a scheme, which is no http
			} else {
				resolved, err := parsed.Parse(reference)
				if err != nil {
					t.Fatal(err)
				}
				resolved.Fragment = ""
				want = resolved.String()
			}
		}
		if got := string(playlist.Resolve(nil, []byte(base), []byte(reference))); got != want {
			t.Errorf("%q: %q, want %q", reference, got, want)
		}
	}
	if got := string(playlist.Resolve([]byte("old"), []byte("http://tv"), []byte("a.ts"))); got != "oldhttp://tv/a.ts" {
		t.Errorf("a base without a path: %q", got)
	}
}

func TestSplitURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		"http://tv:80/a?b": {"http://tv:80", "/a?b"}, "https://tv": {"https://tv", ""}, "http://tv?a": {"http://tv", "?a"},
		"ftp://tv/": {}, "/a": {}, "http:///a": {},
	} {
		origin, rest, ok := playlist.SplitURL([]byte(text))
		if ok != (want[0] != "") || string(origin) != want[0] || string(rest) != want[1] {
			t.Errorf("%q: %q, %q, %v; want %q", text, origin, rest, ok, want)
		}
	}
}

func FuzzPlaylist_Read(f *testing.F) {
	f.Add([]byte("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-MAP:URI=\"i\",BYTERANGE=\"1@2\"\n#EXT-X-BYTERANGE:3\n#EXTINF:4,\na.ts"))
	f.Add([]byte("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=99999999999999999999999\nv.m3u8\n#EXT-X-SKIP:SKIPPED-SEGMENTS=9223372036854775807"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p playlist.Playlist
		if p.Read(text) != nil {
			return
		}
		if p.Target < 0 || p.Sequence < 0 {
			t.Errorf("target duration %v, sequence %d", p.Target, p.Sequence)
		}
		for _, s := range p.Segments {
			if len(s.URI) == 0 || s.Offset < 0 || s.Length < 0 || bytes.ContainsAny(s.URI, "\n") || s.URI[0] == '#' {
				t.Errorf("segment %q, %d bytes from %d", s.URI, s.Length, s.Offset)
			}
		}
		for _, v := range p.Variants {
			if len(v.URI) == 0 || v.Bandwidth < 0 {
				t.Errorf("variant %q, %d b/s", v.URI, v.Bandwidth)
			}
		}
	})
}

// FuzzResolve compares with net/url where that changes no spelling.
func FuzzResolve(f *testing.F) {
	f.Add("/a/b?c", "../d?e")
	f.Add("/a/", "./..//x")
	f.Fuzz(func(t *testing.T, path, reference string) {
		const origin = "http://tv"
		got := string(playlist.Resolve(nil, []byte(origin+"/"+path), []byte(reference)))
		const plain = "abcdefghijklmnopqrstuvwxyz0123456789./?"
		if strings.Trim(path+reference, plain) != "" || strings.Contains("/"+path+reference, "//") ||
			strings.Contains("/"+path, "/.") || reference == "" {
			return // net/url joins slashes and respells the base, which RFC 3986 does not
		}
		base, err := url.Parse(origin + "/" + path)
		if err != nil {
			return
		}
		want, err := base.Parse(reference)
		if err == nil && want.String() != got {
			t.Errorf("%q against %q: %q, want %q", reference, base, got, want)
		}
	})
}
