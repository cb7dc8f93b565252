package hls_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

func TestParse_LocateMapsPaths(t *testing.T) {
	t.Parallel()
	// The origin's /hls/one/ is the viewer's /play/a001/, the origin's /keys/ is the viewer's /k/.
	locate := func(ref string) (string, bool) {
		if rest, found := strings.CutPrefix(ref, "/hls/one/"); found {
			return "/play/a001/" + rest, true
		}
		rest, found := strings.CutPrefix(ref, "/keys/")
		return "/k/" + rest, found
	}
	tests := map[string]struct {
		uri  string
		want map[string]string
	}{
		"beside the playlist": {"seg.ts", map[string]string{
			"path": "/~T/play/a001/seg.ts", "path-ticketed": "seg.ts", "query": "seg.ts?ticket=T",
			"cookie": "seg.ts", "none": "/play/a001/seg.ts", "none-ticketed": "/play/a001/seg.ts",
		}},
		"relative, into a folder that lies elsewhere": {"../../keys/1.key?a=b", map[string]string{
			"path": "/~T/k/1.key?a=b", "path-ticketed": "../../k/1.key?a=b", "query": "/k/1.key?a=b&ticket=T",
			"cookie": "/k/1.key?a=b", "none": "/k/1.key?a=b", "none-ticketed": "/k/1.key?a=b",
		}},
		"rooted, on the origin's path": {"/hls/one/seg.ts", map[string]string{
			"path": "/~T/play/a001/seg.ts", "path-ticketed": "seg.ts", "query": "/play/a001/seg.ts?ticket=T",
			"cookie": "/play/a001/seg.ts", "none": "/play/a001/seg.ts", "none-ticketed": "/play/a001/seg.ts",
		}},
		"rooted, on the viewer's path, which the origin does not have": {"/play/a001/seg.ts", map[string]string{
			"path": "/play/a001/seg.ts", "path-ticketed": "/play/a001/seg.ts", "query": "/play/a001/seg.ts",
			"cookie": "/play/a001/seg.ts", "none": "/play/a001/seg.ts", "none-ticketed": "/play/a001/seg.ts",
		}},
		"the playlist itself with another query": {"?b=2", map[string]string{
			"path": "/~T/play/a001/mono.m3u8?b=2", "path-ticketed": "mono.m3u8?b=2", "query": "/play/a001/mono.m3u8?b=2&ticket=T",
			"cookie": "/play/a001/mono.m3u8?b=2", "none": "/play/a001/mono.m3u8?b=2", "none-ticketed": "/play/a001/mono.m3u8?b=2",
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]string{}
			for name, m := range modes() {
				o := m.options()
				o.Origin, o.Locate = "https://origin.example/hls/one/mono.m3u8", onOrigin(locate)
				got[name] = rewriteURI(t, test.uri, o)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("rewriting %q (-want +got):\n%s", test.uri, diff)
			}
		})
	}
}

func TestParse_Listed_CanonicalHost(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		uri, want string // want is "scheme host", empty if Locate is not called
	}{
		"a host as it is":                   {"http://cdn.example:81/a", "http cdn.example:81"},
		"capitals":                          {"HTTPS://CDN.Example/a", "https cdn.example"},
		"the port of http":                  {"http://cdn.example:80/a", "http cdn.example"},
		"the port of https":                 {"https://cdn.example:443/a", "https cdn.example"},
		"the other scheme's port":           {"https://cdn.example:80/a", "https cdn.example:80"},
		"an empty port":                     {"https://cdn.example:/a", "https cdn.example"},
		"user information":                  {"http://u:p@cdn.example/a", "http cdn.example"},
		"an IPv6 address":                   {"http://[2001:DB8::80]:80/a", "http [2001:db8::80]"},
		"no path":                           {"http://cdn.example?a=b", "http cdn.example"},
		"no scheme":                         {"//cdn.example/a", "http cdn.example"},
		"another scheme":                    {"rtmp://cdn.example/a", ""},
		"a host behind an unknown variable": {"http://{$host}/a", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			o := mode{}.options()
			o.Locate = func(l hls.Listed) (string, bool) { got = l.Scheme + " " + l.Host; return "", false }
			if text := rewriteURI(t, test.uri, o); text != test.uri {
				t.Errorf("got %q, want %q unchanged", text, test.uri)
			}
			if got != test.want {
				t.Errorf("%q: asked for %q, want %q", test.uri, got, test.want)
			}
		})
	}
}

func TestParse_HostWithoutPath_LeadsToRoot(t *testing.T) {
	t.Parallel()
	o := mode{carry: hls.TicketInPath}.options()
	o.Locate = onOrigin(func(ref string) (string, bool) { return ref, true })
	for uri, want := range map[string]string{
		"http://10.0.0.5:8000":        "/~T/",
		"http://10.0.0.5:8000?a=b":    "/~T/?a=b",
		"http://10.0.0.5:8000#t":      "/~T/#t",
		"http://10.0.0.5:8000//a//b/": "/~T//a//b/",
	} {
		if got := rewriteURI(t, uri, o); got != want {
			t.Errorf("%q: got %q, want %q", uri, got, want)
		}
	}
}

func TestParse_TargetWithTwoSlashes_NamesNoHost(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"path": "/~T//evil.example/a.ts", "path-ticketed": "../..//evil.example/a.ts", "query": "/.//evil.example/a.ts?ticket=T",
		"cookie": "/.//evil.example/a.ts", "none": "/.//evil.example/a.ts", "none-ticketed": "/.//evil.example/a.ts",
	}
	got := map[string]string{}
	for name, m := range modes() {
		o := m.options()
		o.Locate = onOrigin(func(ref string) (string, bool) { return ref, true })
		got[name] = rewriteURI(t, "http://10.0.0.5:8000//evil.example/a.ts", o)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
