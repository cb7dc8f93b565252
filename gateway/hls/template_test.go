package hls_test

import (
	"os"
	"strings"
	"testing"

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

func TestTemplateIsStatic(t *testing.T) {
	t.Parallel()
	const body = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist\nseg.ts\n"
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
		if static[name] && string(template.Body()) != string(template.Append(nil, []byte("T"), nil)) {
			t.Errorf("%s: Body() and Append() differ", name)
		}
	}
}

func TestTemplateAppend_KeepsDstAndSizeIsExact(t *testing.T) {
	t.Parallel()
	for name, m := range modes() {
		template, err := hls.Parse([]byte("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist\nseg.ts\n"), m.options())
		if err != nil {
			t.Fatal(err)
		}
		got := string(template.Append([]byte("before"), []byte("ticket"), nil))
		rest, found := strings.CutPrefix(got, "before")
		if !found || len(rest) != template.Size([]byte("ticket"), nil) {
			t.Errorf("%s: got %q, want \"before\" and %d bytes", name, got, template.Size([]byte("ticket"), nil))
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
	ticket := []byte("AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEfGhIj")
	room := make([]byte, 0, template.Size(ticket, nil))
	if got := testing.AllocsPerRun(100, func() { room = template.Append(room[:0], ticket, nil) }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

// TestTemplate_Append_Server has absolute URIs that players resolve against nothing, beside relative ones and others.
func TestTemplate_Append_Server(t *testing.T) {
	t.Parallel()
	const own, server = "http://10.0.0.5:8000", "https://tv.example:8443"
	tests := map[string]struct{ uri, want string }{
		"absolute":                  {own + "/play/a001/ad.m3u8?x=1#t", server + "/play/a001/ad.m3u8?x=1#t"},
		"of another host":           {"https://ads.example/ad.m3u8", "https://ads.example/ad.m3u8"},
		"of another name of origin": {"https://origin.example/play/a001/ad.m3u8", server + "/play/a001/ad.m3u8"},
		"relative":                  {"ad.m3u8", "/play/a001/ad.m3u8"},
		"from the root":             {"/play/a001/ad.m3u8", "/play/a001/ad.m3u8"},
	}
	places := map[string]string{
		"an asset": "#EXTM3U\n#EXT-X-DATERANGE:ID=\"1\",X-ASSET-URI=\"%s\"\n", "an asset list": "#EXTM3U\n#EXT-X-DATERANGE:ID=\"1\",X-ASSET-LIST=\"%s\"\n",
		"a schedule":             "#EXTM3U\n#EXT-X-DATERANGE:ID=\"1\",CLASS=\"com.apple.hls.daterange-schedule\",X-URI=\"%s\"\n",
		"an asset of a schedule": `{"DATERANGES":[{"X-ASSET-URI":"%s"}]}`, "an asset list of a schedule": `{"DATERANGES":[{"X-ASSET-LIST":"%s"}]}`,
		"a schedule of a schedule": `{"DATERANGES":[{"CLASS":"com.apple.hls.preload","X-URI":"%s"}]}`,
		"an asset of a list":       `{"ASSETS":[{"URI":"%s"}]}`, "a variant": `{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-VARIANT-URIS":{"v":"%s"}}}]}`,
		"a rendition": `{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-RENDITION-URIS":{"r":"%s"}}}]}`,
	}
	for place, frame := range places {
		for name, test := range tests {
			for transport, m := range modes() {
				o, parse := m.options(), hls.Parse
				if frame[0] == '{' {
					parse = hls.ParseDocument
				}
				template, err := parse([]byte(strings.Replace(frame, "%s", test.uri, 1)), o)
				if err != nil {
					t.Fatal(err)
				}
				before, after, _ := strings.Cut(frame, "%s")
				got := string(template.Append(nil, []byte("T"), []byte(server)))
				if size := template.Size([]byte("T"), []byte(server)); size != len(got) {
					t.Errorf("%d bytes, Size says %d", len(got), size)
				}
				got = strings.TrimSuffix(strings.TrimPrefix(got, before), after)
				isAbsolute := strings.HasPrefix(test.want, server)
				if !isAbsolute {
					got = resolve(t, server+map[bool]string{true: "/~T"}[m.ticket]+o.Path, got).String()
				}
				if want := withTransport(m, server, test.want); got != want {
					t.Errorf("%s, %s, %s: %q became %q, want %q", place, name, transport, test.uri, got, want)
				}
			}
		}
	}
}

// withTransport returns a viewer's URI with the ticket T.
func withTransport(m mode, server, uri string) string {
	path, isOurs := strings.CutPrefix(strings.TrimPrefix(uri, server), "/play/")
	path, fragment, hasFragment := strings.Cut(path, "#")
	switch {
	case !isOurs:
		return uri
	case m.carry == hls.TicketInPath, m.carry == hls.TicketInNone:
		path = "/~T/play/" + path
	case m.carry == hls.TicketInQuery && strings.Contains(path, "?"):
		path = "/play/" + path + "&ticket=T"
	case m.carry == hls.TicketInQuery:
		path = "/play/" + path + "?ticket=T"
	default:
		path = "/play/" + path
	}
	if hasFragment {
		path += "#" + fragment
	}
	return server + path
}
