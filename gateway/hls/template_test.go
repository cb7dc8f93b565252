package hls_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

func TestParse_TicketInQuery_AddsParameter(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ uri, want string }{
		"no query":                            {"seg.ts", "seg.ts?ticket=T"},
		"an empty query":                      {"seg.ts?", "seg.ts?ticket=T"},
		"a query":                             {"seg.ts?a=b", "seg.ts?a=b&ticket=T"},
		"a query that ends with a joint":      {"seg.ts?a=b&", "seg.ts?a=b&ticket=T"},
		"a ticket alone":                      {"seg.ts?ticket=old", "seg.ts?ticket=T"},
		"a ticket without value":              {"seg.ts?ticket", "seg.ts?ticket=T"},
		"a ticket in front":                   {"seg.ts?ticket=old&a=b", "seg.ts?ticket=T&a=b"},
		"a ticket in the middle":              {"seg.ts?a=b&ticket=old&&c=d#f", "seg.ts?a=b&ticket=T&&c=d#f"},
		"several tickets":                     {"seg.ts?a&ticket=1&b&ticket=2&ticket=3", "seg.ts?a&ticket=T&b"},
		"two tickets and nothing else":        {"seg.ts?ticket=1&ticket=2", "seg.ts?ticket=T"},
		"a longer name":                       {"seg.ts?tickets=1&xticket=2", "seg.ts?tickets=1&xticket=2&ticket=T"},
		"a ticket in another parameter":       {"seg.ts?u=a?ticket=1", "seg.ts?u=a?ticket=1&ticket=T"},
		"a ticket in the path":                {"ticket=1/seg.ts", "ticket=1/seg.ts?ticket=T"},
		"a ticket in the fragment":            {"seg.ts#?ticket=1", "seg.ts?ticket=T#?ticket=1"},
		"a ticket in an absolute URL's query": {"http://10.0.0.5:8000/play/s.ts?ticket=1", "/play/s.ts?ticket=T"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := rewriteURI(t, test.uri, modes()["query"].options()); got != test.want {
				t.Errorf("rewriting %q: got %q, want %q", test.uri, got, test.want)
			}
		})
	}
}

func TestTemplateListedQueries(t *testing.T) {
	t.Parallel()
	const body = `#EXTM3U
#EXT-X-MAP:URI="init.mp4?v=2"
#EXT-X-KEY:METHOD=AES-128,URI="http://10.0.0.5:8000/play/key?id=7#f"
seg-2.ts?ticket=old&h=b
seg-1.ts?h=a
seg-1.ts?h=a
seg-0.ts
seg-3.ts?ticket=old
sub/../list.m3u8?q={$k}
https://cdn.example.com/play/a.ts?c=d
/admin/x.ts?e=f
`
	want := []string{
		"/play/a001/init.mp4?v=2", "/play/a001/list.m3u8?q={$k}", "/play/a001/seg-1.ts?h=a",
		"/play/a001/seg-2.ts?ticket=old&h=b", "/play/a001/seg-3.ts?ticket=old", "/play/key?id=7",
	}
	inQuery := append(append([]string{}, want[:3]...), "/play/a001/seg-2.ts?h=b", "/play/key?id=7")
	for name, m := range modes() {
		template, err := hls.Parse([]byte(body), m.options())
		if err != nil {
			t.Fatal(err)
		}
		want := want
		if m.carry == hls.TicketInQuery {
			want = inQuery
		}
		if diff := cmp.Diff(want, template.ListedQueries()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTemplateIsStatic(t *testing.T) {
	t.Parallel()
	const body = "#EXTM3U\nseg.ts\nlist.m3u8\n"
	static := map[string]bool{"path-ticketed": true, "cookie": true, "none-ticketed": true}
	for name, m := range modes() {
		template, err := hls.Parse([]byte(body), m.options())
		if err != nil {
			t.Fatal(err)
		}
		if got := template.IsStatic(); got != static[name] {
			t.Errorf("%s: Static() = %t, want %t", name, got, static[name])
		}
		if got := template.Body() != nil; got != static[name] {
			t.Errorf("%s: a body is given: %t, want %t", name, got, static[name])
		}
		if static[name] && string(template.Body()) != string(template.Append(nil, "T")) {
			t.Errorf("%s: Body() and Append() differ", name)
		}
	}
}

func TestParse_TicketScope(t *testing.T) {
	t.Parallel()
	const body = "#EXTM3U\n#EXTINF:2,\nseg-1.ts\n#EXTINF:2,\n../b/seg-2.ts\n#EXTINF:2,\n../b/seg-3.ts\n#EXTINF:2,\n../c/v.m3u8#t=1\n"
	want := map[string]string{
		"path":          "/~own/play/a001/seg-1.ts /~b/play/b/seg-2.ts /~b/play/b/seg-3.ts /~c/play/c/v.m3u8#t=1",
		"path-ticketed": "seg-1.ts /~b/play/b/seg-2.ts /~b/play/b/seg-3.ts /~c/play/c/v.m3u8#t=1",
		"query":         "seg-1.ts?ticket=own ../b/seg-2.ts?ticket=b ../b/seg-3.ts?ticket=b ../c/v.m3u8?ticket=c#t=1",
		"cookie":        "seg-1.ts ../b/seg-2.ts ../b/seg-3.ts ../c/v.m3u8#t=1",
		"none":          "/play/a001/seg-1.ts /play/b/seg-2.ts /play/b/seg-3.ts /~c/play/c/v.m3u8#t=1",
		"none-ticketed": "/play/a001/seg-1.ts /play/b/seg-2.ts /play/b/seg-3.ts /~c/play/c/v.m3u8#t=1",
	}
	for name, m := range modes() {
		o := m.options()
		o.TicketScope = func(ref string) string {
			folder := strings.Split(ref, "/")[2]
			return strings.TrimPrefix("in "+folder, "in a001")
		}
		template, err := hls.Parse([]byte(body), o)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(template.Append(nil, "own", "b", "c"))) {
			if line[0] != '#' {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if diff := cmp.Diff(strings.Fields(want[name]), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{"in b", "in c"}, template.Scopes()); diff != "" {
			t.Errorf("%s: scopes (-want +got):\n%s", name, diff)
		}
	}
}

func TestTemplateAppend_KeepsDstAndSizeIsExact(t *testing.T) {
	t.Parallel()
	for name, m := range modes() {
		template, err := hls.Parse([]byte("#EXTM3U\nseg.ts\nlist.m3u8\n"), m.options())
		if err != nil {
			t.Fatal(err)
		}
		got := string(template.Append([]byte("before"), "ticket"))
		rest, found := strings.CutPrefix(got, "before")
		if !found || len(rest) != template.Size("ticket") {
			t.Errorf("%s: got %q, want \"before\" and %d bytes", name, got, template.Size("ticket"))
		}
	}
}

func TestParse_KeepsNoReferenceToBody(t *testing.T) {
	t.Parallel()
	body := []byte("#EXTM3U\nseg.ts?a=b\n")
	template, err := hls.Parse(body, modes()["path-ticketed"].options())
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	if got, want := string(template.Body()), "#EXTM3U\nseg.ts?a=b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if diff := cmp.Diff([]string{"/play/a001/seg.ts?a=b"}, template.ListedQueries()); diff != "" {
		t.Errorf("Queried (-want +got):\n%s", diff)
	}
}

func TestTemplateAppend_WithRoom_DoesNotAllocate(t *testing.T) {
	body, err := os.ReadFile("testdata/ffmpeg-live/origin.m3u8")
	if err != nil {
		t.Fatal(err)
	}
	template, err := hls.Parse(body, modes()["path"].options())
	if err != nil {
		t.Fatal(err)
	}
	const ticket = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEfGhIj"
	room := make([]byte, 0, template.Size(ticket))
	if got := testing.AllocsPerRun(100, func() { room = template.Append(room[:0], ticket) }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}
